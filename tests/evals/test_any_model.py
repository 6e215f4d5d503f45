"""Evals of a model that is not built in: a copy of Sprites' folder, with a Python scorer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from promptprobe.__main__ import main
from promptprobe.tools.sprites import PIPELINE
from promptprobe.tools.sprites.evidence import held_out
from tests.evals.random_probe import random_probe

JUDGES = """
from promptprobe.tools.sprites.plugin import open_critic, open_scorer

finds, looks = open_scorer("", "cpu"), open_critic("", "cpu")

def score(brief, images):
    return [found.value for found in finds.score_images(brief, images)]

def grade(brief, images):
    return [found.value for found in looks.score_images(brief, images)]
"""
SCORER, JUDGE = "python:judge.py:score", "python:judge.py:grade"
SHORT = ("--steps", "3", "--seeds", "2", "--json")
STRANGER = ("--model", "copy", "--prompts", "prompts.txt", "--scorer", SCORER)
SETTINGS = ("--height", "64", "--width", "64", "--guidance", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stranger's folder: a model, judges without words, six prompts; and two random probes."""
    from promptprobe.probe.model.checkpoint import save_probe
    from promptprobe.tools.models.model import open_model
    from promptprobe.tools.records import Generation
    from promptprobe.tools.toolbox import settings_of

    at = tmp_path_factory.mktemp("stranger")
    shutil.copytree(PIPELINE, at / "copy")
    (at / "judge.py").write_text(JUDGES)
    (at / "prompts.txt").write_text("\n".join(one.text for one in held_out(6, "test")))
    opened = open_model("sprites", Generation(steps=3))
    for name, target in (("own", "sprites"), ("theirs", SCORER)):
        found = random_probe(
            opened.family, settings_of(opened.generation), (f"{target} score",), (1, 2)
        )
        save_probe(at / name, found.network, found.card)
    return at


def measured(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main(["eval", *argv, *SHORT]) == 0, capsys.readouterr().err
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def keys(report: Any) -> Any:
    """The keys of a report, and theirs; not those that name a judge."""
    if not isinstance(report, dict):
        return None
    skipped = ("further_targets", "stop_reasons", "words", "second_judge", "attribution")
    return {name: None if name in skipped else keys(item) for name, item in report.items()}


def test_fidelity_of_any_model_reports_what_that_of_a_built_in_one_does(
    folder, monkeypatch, capsys
):
    monkeypatch.chdir(folder)
    built_in = measured(capsys, "fidelity", "--prompts", "4", "--probe", "own")
    stranger = measured(
        capsys, "fidelity", *STRANGER, *SETTINGS, "--probe", "theirs", "--judge", JUDGE
    )

    assert keys(stranger) == keys(built_in)
    assert (stranger["n_prompts"], stranger["n_validation_prompts"]) == (4, 2)
    assert stranger["words"] is None
    assert stranger["notes"] == ["the scorer judges no words: which words go wrong is left out"]
    assert set(stranger["verdict"]["steps"]) == {"1", "2"}
    assert stranger["second_judge"].keys() == built_in["second_judge"].keys()


def test_gain_of_any_model_reports_what_that_of_a_built_in_one_does(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    built_in = measured(capsys, "gain", "--prompts", "2", "--budget", "2")
    stranger = measured(
        capsys, "gain", *STRANGER, *SETTINGS, "--most", "2", "--budget", "2", "--good", "0.5"
    )

    assert keys(stranger) == keys(built_in)
    assert stranger["n_prompts"] == 2
    assert stranger["positives"] == f"{SCORER} >= 0.5, as asked for"
    assert stranger["attribution"]["all rewrites"] is None
    assert stranger["attribution"].keys() == built_in["attribution"].keys()
    assert "the same scorer selected and graded" in " ".join(stranger["notes"])
