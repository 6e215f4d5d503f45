"""`promptprobe pairs`: the probe chooses, the score decides, and nothing is drawn twice."""

from __future__ import annotations

import io
import json
import shutil
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from promptprobe import Budget, Generation, optimize_prompt
from promptprobe.__main__ import main
from promptprobe.agent import run_folder
from promptprobe.agent.export.pairs import FOLDER, FinishedRun, told_apart
from promptprobe.agent.ledger import Ledger, ProbedLine
from promptprobe.agent.result import read_result
from promptprobe.agent.run_folder import RunSettings
from promptprobe.tools.protocol import Probed
from promptprobe.tools.records import IN_MEMORY, Candidate, Prediction, Trial
from tests.agent.scripted import ScriptedTools, start

BRIEFS = ("a green key left of a red fish", "a red cat above a blue car")
SMALL = Budget(renders=6, prompts=4, seeds=4, keep=2)
STEPS = 8


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small runs on Sprites."""
    out = tmp_path_factory.mktemp("finished")
    for brief in BRIEFS:
        optimize_prompt(brief, budget=SMALL, generation=Generation(steps=STEPS), out=out)
    return out


@pytest.fixture
def runs(finished: Path, tmp_path: Path) -> Path:
    """A copy of the test's own."""
    return shutil.copytree(finished, tmp_path / "runs")


def trials_of(runs: Path) -> list[Trial]:
    folders = sorted(path.parent for path in runs.rglob("run.json"))
    return [trial for folder in folders for trial in read_result(folder).trials]


def made(runs: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    capsys.readouterr()
    assert main(["pairs", "--from", str(runs), "--out", str(out), "--json"]) == 0
    found: dict[str, int] = json.loads(capsys.readouterr().out)
    return found


def rows_of(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


def test_pairs_are_the_probes_extremes_labelled_by_the_score(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "train.parquet"
    counts = made(runs, out, capsys)
    rows = rows_of(out)
    chosen = {ranked[0].candidate.prompt: ranked for ranked in told_apart(trials_of(runs))}
    assert counts["prompts"] == len(chosen)
    assert counts["prompts"] == counts["pairs"] + counts["tied"] + counts["unscored"]
    assert counts["pairs"] == len(rows) > 0
    for row in rows:
        ranked = chosen[row["caption"]]
        two = {
            (t.candidate.seed, t.prediction and t.prediction.score)
            for t in ranked[:: len(ranked) - 1]
        }
        assert {(row[f"seed_{n}"], row[f"predicted_{n}"]) for n in (0, 1)} == two
        better = int(row["score_1"] > row["score_0"])
        assert (row[f"label_{better}"], row[f"label_{1 - better}"]) == (1.0, 0.0)
        assert row[f"score_{better}"] > row[f"score_{1 - better}"]
        assert row["brief"] in BRIEFS and row["model"] == "sprites"
        for name in ("jpg_0", "jpg_1"):
            with Image.open(io.BytesIO(row[name])) as image:
                assert (image.format, image.size) == ("PNG", (64, 64))
    assert {row["label_0"] for row in rows} == {0.0, 1.0}
    assert list(out.parent.iterdir()) == [out]


def test_a_second_call_draws_nothing_and_a_lost_image_is_drawn_again(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = trials_of(runs)
    first = made(runs, tmp_path / "first.parquet", capsys)
    assert first["rendered"] > 0
    assert first["nfe"] == first["rendered"] * 2 * STEPS
    assert trials_of(runs) == before
    second = made(runs, tmp_path / "second.parquet", capsys)
    assert second == first | {"rendered": 0, "nfe": 0}
    assert (tmp_path / "first.parquet").read_bytes() == (tmp_path / "second.parquet").read_bytes()
    lost = next(runs.rglob(f"{FOLDER}/*.png"))
    lost.unlink()
    third = made(runs, tmp_path / "third.parquet", capsys)
    assert third["rendered"] == 1
    rows = zip(
        rows_of(tmp_path / "third.parquet"), rows_of(tmp_path / "first.parquet"), strict=True
    )
    for again, before_it in rows:  # drawn alone, where it was drawn in a batch: equal but for bits
        pictures = ("jpg_0", "jpg_1")
        assert {k: again[k] for k in again if k not in pictures} == {
            k: before_it[k] for k in before_it if k not in pictures
        }
        for name in pictures:
            one, other = (
                np.asarray(Image.open(io.BytesIO(row[name])), int) for row in (again, before_it)
            )
            assert np.abs(one - other).max() <= 1


def test_the_cost_is_said_first_and_counts_what_the_run_has_paid(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pairs", "--from", str(runs), "--out", str(tmp_path / "p.parquet"), "--json"]) == 0
    captured = capsys.readouterr()
    counts = json.loads(captured.out)
    choices = told_apart(trials_of(runs))
    seeds, each = sum(map(len, choices)), 2 * STEPS
    assert captured.err.startswith(
        f"sprites: at most {len(choices)} pairs of {seeds} probed seeds; {counts['rendered']} "
        f"images to render, at most {counts['rendered'] * each} denoiser evaluations"
    )
    assert counts["nfe_every_seed"] == seeds * each
    all_of = list(chain(*choices))
    looked = [max(look.step for look in trial.looks) for trial in all_of]
    drawn = [trial for group in choices for trial in (group[0], group[-1]) if trial.image]
    continued = [STEPS - k for k, trial in zip(looked, all_of, strict=True) if trial in drawn]
    assert counts["nfe_in_all"] == 2 * (sum(looked) + sum(continued)) + counts["nfe"]


@pytest.mark.parametrize("name", ["train.txt", "train_metadata.jsonl"])
def test_prompts_are_those_that_promise_the_greatest_differences_and_nothing_is_drawn(
    name: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / name
    counts = made(runs, out, capsys)
    lines = out.read_text().splitlines()
    expected = {ranked[0].candidate.prompt for ranked in told_apart(trials_of(runs))}
    assert counts == {"prompts": len(expected), "left_out": 0}
    if out.suffix == ".jsonl":
        rows = [json.loads(line) for line in lines]
        spreads = [row["predicted_std"] for row in rows]
        assert spreads == sorted(spreads, reverse=True) and spreads[-1] > 0
        lines = [row["prompt"] for row in rows]
    assert set(lines) == expected and len(lines) == len(expected)
    assert not list(runs.rglob(FOLDER))


# One run, without a model


def probed(run_dir: Path, *predictions: float | None, prompt: str = "a red cat") -> Path:
    """One prompt, and a seed for each prediction."""
    lines = []
    for seed, score in enumerate(predictions):
        view = None if score is None else Prediction(score=score, basis="preview")
        candidate = Candidate(prompt=prompt, seed=seed)
        found = Probed(step=5, prediction=view, latents=run_dir / candidate.key, nfe=10)
        lines.append(ProbedLine(round=1, candidate=candidate, probed=found))
    Ledger(run_dir).write(lines)
    return run_dir


def test_a_prompt_of_two_lines_stays_one_line_of_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = probed(start(tmp_path), 0.2, 0.8, prompt="a red cat\nby night")
    assert made(run_dir, tmp_path / "train.txt", capsys) == {"prompts": 1, "left_out": 0}
    assert (tmp_path / "train.txt").read_text() == "a red cat by night\n"


def test_a_candidate_goes_on_from_its_latents_while_they_are_there(tmp_path: Path) -> None:
    run_dir = probed(start(tmp_path), 0.2, 0.9, 0.5)
    low, high = (Candidate(prompt="a red cat", seed=seed) for seed in (0, 1))
    (run_dir / high.key).write_text(f"{high.key} 5")
    run, tools = FinishedRun(run_dir), ScriptedTools(tmp_path / "log")
    [found] = run.render(tools)
    assert [one.nfe for one in found] == [40, 50]
    assert tools.log.read_text().split() == ["render", high.key, "render", low.key]
    assert run.nfe(run.choices[0]) == 3 * 10 + 40 + 50
    assert list(FinishedRun(run_dir).render(tools)) == []


def test_a_scorer_that_failed_is_asked_again(tmp_path: Path) -> None:
    run_dir = probed(start(tmp_path), 0.2, 0.9)
    run, log = FinishedRun(run_dir), tmp_path / "log"
    list(run.render(ScriptedTools(log)))
    failed = run.judge(ScriptedTools(log, scorer_fails=True))
    assert {score.reason for score in failed} == {"the scorer is out of order"}
    two = [trial.candidate for trial in run.choices[0]]
    assert [run.score(candidate) for candidate in two] == [None, None]
    scores = [score.value for score in FinishedRun(run_dir).judge(ScriptedTools(log))]
    assert None not in scores
    assert [FinishedRun(run_dir).score(candidate) for candidate in two] == scores


# Runs judged by code, and runs that cannot be used


@pytest.fixture
def judged_by_code(tmp_path: Path) -> tuple[Path, str]:
    """A run whose scorer is a function in a file, and that scorer's name."""
    code = tmp_path / "judge.py"
    code.write_text("def red(brief, image):\n    return image.resize((1, 1)).getpixel((0, 0))[0]\n")
    scorer = f"python:{code}:red"
    few, out = Generation(steps=STEPS), tmp_path / "by code"
    run = optimize_prompt(BRIEFS[0], scorer=scorer, budget=SMALL, generation=few, out=out)
    return run.run_dir, scorer


def test_a_run_judged_by_code_is_exported_where_its_scorer_is_named_or_not_needed(
    judged_by_code: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_dir, scorer), out = judged_by_code, tmp_path / "p.parquet"
    asked = ["--from", str(run_dir), "--out", str(out)]
    code, said = refused(asked, capsys)
    assert code == 2 and not (run_dir / FOLDER).exists()
    assert f"{run_dir}: it was judged by {scorer!r}" in said and f"--scorer {scorer}" in said
    code, said = refused([*asked, "--scorer", "sprites"], capsys)
    assert code == 2 and f"give --scorer {scorer}" in said
    assert main(["pairs", *asked, "--scorer", scorer, "--json"]) == 0
    first, rows = json.loads(capsys.readouterr().out), rows_of(out)
    assert first["rendered"] > 0 and first["pairs"] == len(rows) > 0
    Path(scorer.split(":")[1]).unlink()  # nothing has to be judged anew
    assert made(run_dir, out, capsys) == first | {"rendered": 0, "nfe": 0}
    assert rows_of(out) == rows


def test_a_run_that_cannot_be_used_is_named_and_the_others_are_exported(
    runs: Path,
    judged_by_code: tuple[Path, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    alone = made(runs, tmp_path / "alone.parquet", capsys)
    by_code = shutil.copytree(judged_by_code[0], runs / "by code")
    damaged = runs / "damaged"
    damaged.mkdir()
    (damaged / run_folder.FILE).write_text("{")
    out = tmp_path / "p.parquet"
    asked = ["pairs", "--from", str(runs), "--json", "--out"]
    assert main([*asked, str(out)]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out) == alone | {"rendered": 0, "nfe": 0, "left_out": 2}
    assert f"left out: {by_code}: it was judged by" in captured.err
    assert f"left out: {damaged}: " in captured.err
    assert rows_of(out) == rows_of(tmp_path / "alone.parquet")
    assert main([*asked, str(tmp_path / "p.txt")]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["left_out"] == 1
    assert f"left out: {damaged}: " in captured.err


def test_a_scorer_that_judged_no_run_is_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--from", str(finished), "--scorer", "ocr", "--out"]
    code, said = refused([*asked, str(tmp_path / "p.parquet")], capsys)
    assert code == 2 and "was judged by 'ocr', but by 'sprites'" in said
    code, said = refused([*asked, str(tmp_path / "p.txt")], capsys)
    assert code == 2 and "--scorer goes with .parquet" in said


# What is refused


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["pairs", *arguments])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return code, captured.err.splitlines()[-1]


@pytest.mark.parametrize("name", ["p.parquet", "p.jsonl"])
def test_a_folder_without_runs_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = refused(["--from", str(tmp_path), "--out", str(tmp_path / name)], capsys)
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert "expected the folder of a run, or a folder of runs" in said


@pytest.mark.parametrize("predictions", [(0.5,), (0.5, 0.5), (0.5, None)])
def test_one_seed_or_equal_predictions_leave_nothing_to_compare(
    predictions: tuple[float | None, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = probed(start(tmp_path), *predictions)
    code, said = refused(["--from", str(run_dir), "--out", str(tmp_path / "p.parquet")], capsys)
    assert code == 2
    assert "two seeds with different predicted scores" in said


@pytest.mark.parametrize("settings", [{"model": IN_MEMORY}, {"scorer": "callable darkness"}])
def test_what_was_an_object_in_python_cannot_be_drawn_again(
    settings: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = probed(start(tmp_path, **settings), 0.2, 0.8)
    code, said = refused(["--from", str(tmp_path), "--out", str(tmp_path / "p.parquet")], capsys)
    assert code == 2
    assert str(run_dir) in said and "a Python object" in said


def test_pairs_that_are_all_tied_make_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = RunSettings(
        brief="a red cat",
        model="sprites",
        scorer="sprites",
        generation=Generation(steps=1),
        budget=SMALL,
    )
    run_dir = probed(run_folder.create(tmp_path, settings), 0.2, 0.8)
    out = tmp_path / "p.parquet"
    code, said = refused(["--from", str(run_dir), "--out", str(out)], capsys)
    assert code == 1
    assert "no pair has scores that differ: 1 tied, 0 unscored" in said
    assert "What was rendered is kept" in said
    assert list(tmp_path.iterdir()) == [run_dir]


def test_bad_usage_and_a_missing_library_are_told_before_anything_is_drawn(
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, said = refused(["--from", str(finished), "--out", "pairs.csv"], capsys)
    assert code == 2
    assert "expected .parquet, .jsonl or .txt, got 'pairs.csv'" in said
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, said = refused(["--from", str(finished), "--out", str(tmp_path / "p.parquet")], capsys)
    assert code == 1
    assert "pairs needs pyarrow, not installed: pip install 'promptprobe[train]'" in said
    assert not list(finished.rglob(FOLDER))
