"""Many briefs: files of all sorts, rows that survive a kill, and briefs that fail alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from promptprobe.__main__ import main
from promptprobe.agent import run_folder
from promptprobe.agent.batch import (
    RESULTS,
    Item,
    Results,
    keep_settings,
    read_briefs,
    run_batch,
)
from promptprobe.agent.doors.schemas import OptimizeRequest
from promptprobe.tools.endpoint.endpoint import LLM
from promptprobe.tools.records import Generation
from tests.processes import begun


def written(folder: Path, text: str | bytes, name: str = "briefs.txt") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# Reading


def test_rows_may_ask_for_seed_size_and_negative_prompt_of_their_own(tmp_path: Path) -> None:
    table = "prompt,seed,width,negative_prompt,artist\na cat,7,64,blurry,me\na dog,,,,\n"
    (cat, dog), notice = read_briefs(written(tmp_path, table, "briefs.csv"))
    template = OptimizeRequest(brief="any", seed=3, generation=Generation(steps=5, height=32))
    asked = cat.request(template)
    assert (asked.brief, asked.seed) == ("a cat", 7)
    expected = Generation(steps=5, height=32, width=64, negative_prompt="blurry")
    assert asked.generation == expected
    assert dog.request(template) == template.model_copy(update={"brief": "a dog"})
    assert "'artist'" in notice


def test_a_value_out_of_bounds_is_the_problem_of_its_row(tmp_path: Path) -> None:
    (cat,), _ = read_briefs(written(tmp_path, '{"prompt": "a cat", "width": "wide"}', "b.jsonl"))
    with pytest.raises(ValueError, match=r"width.*'wide'"):
        cat.request(OptimizeRequest(brief="any"))
    (dog,), _ = read_briefs(written(tmp_path, '{"prompt": "a dog", "seed": true}', "b.jsonl"))
    with pytest.raises(ValueError, match="seed: expected a whole number, got True"):
        dog.request(OptimizeRequest(brief="any"))


def test_ids_that_are_missing_null_or_there_twice_do_not_collide(tmp_path: Path) -> None:
    given = [7, "7", None, "5", None]
    lines = [json.dumps({"brief": f"cat {n}", "id": name}) for n, name in enumerate(given)]
    items, notice = read_briefs(written(tmp_path, "\n".join(lines), "b.jsonl"))
    assert [item.id for item in items] == ["7", "7 (line 2)", "3", "5", "5 (line 5)"]
    assert notice == ""


def test_a_brief_that_is_too_long_is_an_item_with_its_problem(tmp_path: Path) -> None:
    (item,), _ = read_briefs(written(tmp_path, "x" * 5000))
    assert "at most 4000 characters a brief, got 5,000" in item.problem
    assert len(item.brief) == 4000


# Results


def test_a_half_written_last_row_is_dropped_and_written_again(tmp_path: Path) -> None:
    first, second = Item(id="1", brief="a cat"), Item(id="2", brief="a car")
    results = Results(tmp_path)
    results.write(first, {"score": 1})
    with results.path.open("a") as file:
        file.write('{"id": "2", "brief": "a c')
    again = Results(tmp_path)
    assert again.has(first)
    assert not again.has(second)
    again.write(second, {"score": 0})
    rows = [json.loads(line) for line in results.path.read_text().splitlines()]
    assert [row["brief"] for row in rows] == ["a cat", "a car"]


def test_a_brief_that_failed_is_tried_again_and_has_one_row(tmp_path: Path) -> None:
    good, bad = Item(id="1", brief="a cat"), Item(id="2", brief="a car")
    results = Results(tmp_path)
    results.write(bad, {"error": "no GPU"})
    results.write(good, {"score": 1})
    again = Results(tmp_path)
    assert again.has(good)
    assert not again.has(bad)
    again.forget_failures()
    again.write(bad, {"score": 0})
    rows = [json.loads(line) for line in results.path.read_text().splitlines()]
    assert [(row["id"], row["score"]) for row in rows] == [("1", 1), ("2", 0)]


def test_a_damaged_row_in_the_middle_is_named(tmp_path: Path) -> None:
    written(tmp_path, 'garbage\n{"id": "2", "brief": "a car"}\n', RESULTS)
    with pytest.raises(ValueError, match="line 1, is damaged"):
        Results(tmp_path)


def test_rows_of_another_briefs_file_are_not_mistaken_for_done(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.write(Item(id="1", brief="a cat"), {})
    with pytest.raises(ValueError, match="belongs to another briefs file"):
        results.has(Item(id="1", brief="a car"))


def test_a_folder_in_which_somebody_works_is_refused_with_the_holder(tmp_path: Path) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("nothing is run in a folder of others")

    batch = run_batch([Item(id="1", brief="a cat")], tmp_path, OptimizeRequest(brief="any"), never)
    with (
        run_folder.locked(tmp_path),
        pytest.raises(run_folder.FolderInUseError, match=f"in use by process {os.getpid()} on "),
    ):
        next(batch)


def test_going_on_with_other_settings_is_refused_with_both_values(tmp_path: Path) -> None:
    keep_settings(tmp_path, OptimizeRequest(brief="any", seed=1))
    keep_settings(tmp_path, OptimizeRequest(brief="another", seed=1))
    with pytest.raises(ValueError, match="seed was 1, is 2"):
        keep_settings(tmp_path, OptimizeRequest(brief="any", seed=2))


def test_a_batch_with_another_llm_setting_is_refused_with_what_differs(tmp_path: Path) -> None:
    request = OptimizeRequest(brief="any", llm="name")
    keep_settings(tmp_path, request, LLM(model="name", temperature=0.1))
    keep_settings(tmp_path, request, LLM(model="name", temperature=0.1))
    with pytest.raises(ValueError, match=r"llm\.temperature was 0\.1, is 0\.7\. Use the same"):
        keep_settings(tmp_path, request, LLM(model="name", temperature=0.7))
    with pytest.raises(ValueError, match=r"llm\.temperature was 0\.1, is None"):
        keep_settings(tmp_path, request)


# Whole batches, on a tiny random model


@pytest.fixture
def command(ddim_folder: Path, clip_folder: Path, tmp_path: Path) -> list[str]:
    options = ["--model", str(ddim_folder), "--scorer", f"clip:{clip_folder}", "--steps", "5"]
    return ["optimize", *options, "--out", str(tmp_path / "out")]


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / RESULTS).read_text().splitlines()]


def test_a_brief_that_fails_leaves_its_error_and_the_batch_goes_on(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, '{"brief": "a cat"}\n{"brief": ""}\n{"prompt": "a red car"}\n')
    assert main([*command, "--briefs", str(file), "--json"]) == 1
    summary = json.loads(capsys.readouterr().out)
    assert summary == {
        "briefs": 3,
        "skipped": 0,
        "failed": 1,
        "results": str(tmp_path / "out" / RESULTS),
    }
    first, bad, last = rows(tmp_path / "out")
    assert "its prompt is empty" in bad["error"]
    assert [first["brief"], last["brief"]] == ["a cat", "a red car"]
    assert Path(last["best"]["image"]).is_file()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--model", "/no/such/model"], "unknown model '/no/such/model'"),
        (["--scorer", "clip:/no/such/clip"], "there is no folder /no/such/clip"),
        (["--height", "33"], "height must be a multiple of 8 pixels, got 33"),
        (["--llm", "some-model"], "OPENAI_API_KEY"),
    ],
)
def test_what_fails_for_every_brief_ends_the_batch_and_leaves_its_folder_free(
    wrong: list[str],
    says: str,
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    batch = [*command, "--briefs", str(written(tmp_path, "a cat\na red car\n"))]
    assert main([*batch, *wrong]) == 2
    assert capsys.readouterr().err.count(says) == 1
    assert not list((tmp_path / "out").iterdir())


def test_a_batch_loads_its_model_once(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import DiffusionPipeline

    load, loaded = DiffusionPipeline.from_pretrained, list[str]()

    def counted(source: str, **options: Any) -> Any:
        loaded.append(source)
        return load(source, **options)

    model = Path(shutil.copytree(command[2], tmp_path / "model"))
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", counted)
    file = written(tmp_path, "a cat\na red car\na dog\n")
    assert main([*command, "--model", str(model), "--briefs", str(file)]) == 0
    assert loaded == [str(model)]


def test_a_killed_batch_goes_on_with_the_run_in_flight(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, "a cat\na red car\na dog\n")
    arguments = [*command, "--briefs", str(file)]
    out = tmp_path / "out"
    with begun(arguments) as child:
        while not list(out.glob("runs/000002/*/run.json")):
            child.process.join(0.02)
            assert child.process.is_alive()
        child.process.kill()
        assert child.wait() == -signal.SIGKILL
    assert [row["brief"] for row in rows(out)] == ["a cat"]
    (in_flight,) = (out / "runs/000002").iterdir()

    assert main(arguments) == 0
    assert "3 briefs, 1 skipped, 0 failed" in capsys.readouterr().out
    assert [row["brief"] for row in rows(out)] == ["a cat", "a red car", "a dog"]
    assert rows(out)[1]["run_dir"] == str(in_flight)

    assert main(arguments) == 0
    assert "3 briefs, 3 skipped" in capsys.readouterr().out
    assert len(rows(out)) == 3
