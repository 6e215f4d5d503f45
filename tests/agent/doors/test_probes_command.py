"""`promptprobe probes` as its user meets it, and `promptprobe probe` with a probe of the hub."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from promptprobe.__main__ import main
from promptprobe.probe.model.card import ranges_of
from promptprobe.probe.model.checkpoint import CARD, WEIGHTS, load_probe
from promptprobe.tools.sprites import PROBE
from promptprobe.tools.sprites.plugin import MODELS
from tests.hub import REPOSITORY, Hub, serving

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped probe, to be broken."""
    return shutil.copytree(PROBE, tmp_path / "probe")


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that cuts no line."""
    monkeypatch.setenv("COLUMNS", "300")


def change(folder: Path, **fields: object) -> None:
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | fields))


def test_list_shows_the_shipped_probes_and_why_another_is_broken(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / WEIGHTS).write_bytes(b"garbage")
    assert main(["probes", "list", str(folder.parent)]) == 0
    shown = capsys.readouterr().out
    for name in MODELS:
        assert re.search(rf"{name} +{name} +sprites score +\d+ of 25 +0\.\d{{3}} +\d+", shown)
    assert re.search(rf"{folder} +- .*{WEIGHTS} is truncated or not the file", shown)
    assert main(["probes", "list", str(folder.parent), "--json"]) == 0
    *shipped, broken = json.loads(capsys.readouterr().out)["probes"]
    assert [one["probe"] for one in shipped] == list(MODELS)
    assert all(5 in one["windows"] and not one["problem"] for one in shipped)
    assert (broken["folder"], broken["targets"]) == (str(folder), [])
    assert "truncated" in broken["problem"]


def test_list_names_a_folder_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probes", "list", "nowhere"]) == 2
    assert "got nowhere" in capsys.readouterr().err


def test_show_says_what_a_probe_is_for_and_how_good_it_was(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = load_probe(folder).card
    [after_five] = [window.model_dump() for window in card.windows if window.k == 5]
    change(folder, windows=[after_five | {"k": k} for k in (5, 9, 11, 12, 13, 14)])
    assert main(["probes", "show", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"weights +[\d,]{9} bytes, sha256 " + card.weights_sha256, shown)
    assert re.search(rf"scheduler +{card.made_with.scheduler} *\n", shown)
    assert re.search(r"timesteps +999, 959, .*, 39 *\n", shown)
    assert re.search(r"sprites score +0 +1 +1 *\n", shown)
    assert re.search(r"on validation scenes +5 steps +9 steps", shown)
    assert re.search(r"rank within a prompt +(0\.\d{3}) +\1 +\1 ", shown)


def test_show_says_where_a_probe_holds_and_what_was_measured_there(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = load_probe(folder).card
    change(folder, ranges=ranges_of(card.made_with).model_dump(), checks=[])
    assert main(["probes", "show", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"holds for *\n +steps +25 *\n +guidance +2 *\n", shown)
    assert "with other settings" not in shown
    figures = {"candidates": 1200, "within_pairwise_home": 0.9, "interval_width": 0.25}
    checks = [
        {"setting": "steps", "value": 15, "holds": True, "within_pairwise": 0.875, "coverage": 0.9},
        {"setting": "guidance", "value": 7.5, "holds": False, "within_pairwise": None}
        | {"coverage": None},
    ]
    ranges = json.loads((folder / CARD).read_text())["ranges"] | {"steps": [15, 25]}
    change(folder, ranges=ranges, checks=[check | figures for check in checks])
    assert main(["probes", "show", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"holds for *\n +steps +15 to 25 *\n +guidance +2 *\n", shown)
    assert re.search(r"steps 15 +yes +1,200 +0\.875 +0\.900 +0\.900 +0\.250", shown)
    assert re.search(r"guidance 7\.5 +no +1,200 +- +0\.900 +- +0\.250", shown)


def test_show_prints_the_card_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probes", "show", "sprites", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bytes"] == (PROBE / WEIGHTS).stat().st_size
    assert found["card"] == load_probe(PROBE).card.model_dump(mode="json")


def test_text_of_a_card_is_neither_markup_nor_control_characters(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = {"[red]\x1b[2J": {"[link]": 0.5}}
    card = json.loads((folder / CARD).read_text())
    windows = [window | {"figures": figures} for window in card["windows"]]
    targets = [target | {"name": "[red]\x1b[2J"} for target in card["targets"]]
    facts = card["made_with"] | {"layers": ["[red]\x1b[2J"]}
    change(folder, model="[bold]\x1b[2J", targets=targets, windows=windows, made_with=facts)
    for command in ("list", "show", "verify"):
        assert main(["probes", command, str(folder)]) == 0
        shown = capsys.readouterr().out
        assert "[bold]\ufffd[2J" in shown and "[red]\ufffd[2J" in shown
        assert "\x1b" not in shown


def test_verify_tells_a_whole_probe_from_a_broken_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probes", "verify", str(folder)]) == 0
    said = capsys.readouterr().out
    assert re.fullmatch(
        r"intact, made for sprites: .* sprites score.* after .*5.* of 25 steps\n", said
    )
    (folder / WEIGHTS).write_bytes(b"garbage")
    for command in ("verify", "show"):
        assert main(["probes", command, str(folder)]) == 1
        captured = capsys.readouterr()
        assert "expected sha256" in captured.err and captured.out == ""


def test_verify_holds_a_probe_against_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    verify = ["probes", "verify", "sprites", "--model", "sprites"]
    assert main(verify) == 0
    assert capsys.readouterr().out.startswith("fits sprites: predicts the sprites score")
    assert main([*verify, "--guidance", "9"]) == 1
    assert "guidance 1.5 to 4.0, but the model in use has 9.0" in capsys.readouterr().err


def test_verify_refuses_settings_without_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probes", "verify", "sprites", "--negative-prompt", "blur"]) == 2
    assert (
        "--negative-prompt is a setting of a model: expected --model, too"
        in capsys.readouterr().err
    )


def test_an_unknown_probe_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for command, code in ((["probes", "show"], 1), (["probe", "a red cat", "--probe"], 2)):
        assert main([*command, "no/such/probe"]) == code
        assert "unknown probe 'no/such/probe'" in capsys.readouterr().err


def test_a_probe_of_the_hub_predicts_like_the_shipped_one(tmp_path: Path) -> None:
    files = {name: (PROBE / name).read_bytes() for name in (CARD, WEIGHTS)}
    with serving(Hub(files)) as hub:
        mine = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [
                *(sys.executable, "-m", "promptprobe", "probe", "a red cat", "--seeds", "1"),
                *("--probe", REPOSITORY, "--json"),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | mine,
        )
    reply = json.loads(done.stdout)
    assert (reply["basis"], reply["warnings"]) == ("probe", [])
    assert f"GET main/{CARD}" in hub.asked
