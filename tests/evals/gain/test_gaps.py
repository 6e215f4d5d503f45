"""Images that a judge of `eval gain` left unscored are left out and counted; no NaN is printed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from promptprobe.__main__ import main

JUDGES = """
from hashlib import sha256
from pathlib import Path

import numpy as np

from promptprobe import Score

ASKED, GAPS = Path("asked"), Path("gaps").read_text().split()


def score(brief, image):
    return float(np.asarray(image)[..., 0].mean())


def grade(brief, image):
    looked = sha256(np.asarray(image).tobytes()).hexdigest()
    with ASKED.open("a") as log:
        print(brief, looked, file=log)
    number = sum(line.startswith(brief) for line in ASKED.read_text().splitlines()) - 2
    if f"{brief[2:5]}-{number}" in GAPS:  # 0: the first picture of a brief; -1: one of noise
        return Score(reason="no object is seen")
    return float(np.asarray(image)[..., 1].mean())
"""
PROMPTS = ("a fox", "a cat", "a dog")


def gain(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch, gaps: str) -> int:
    """Two pictures of a run, then three fresh ones, are graded of each brief."""
    monkeypatch.chdir(folder)
    Path("judge.py").write_text(JUDGES)
    Path("gaps").write_text(gaps)
    Path("prompts.txt").write_text("\n".join(PROMPTS))
    argv = ["eval", "gain", "--model", str(model), "--prompts", "prompts.txt", "--steps", "3"]
    judges = ["--scorer", "python:judge.py:score", "--judge", "python:judge.py:grade"]
    return main([*argv, *judges, "--seeds", "3", "--budget", "2", "--json"])


def numbers(report: Any) -> list[Any]:
    if isinstance(report, dict):
        return [number for part in report.values() for number in numbers(part)]
    return [report]


@pytest.mark.parametrize("gap", ["fox-0", "fox-3"])
def test_a_brief_with_an_unscored_image_is_left_out_of_every_figure_and_counted(
    gap, tmp_path, ddim_folder, monkeypatch, capsys
):
    assert gain(tmp_path, ddim_folder, monkeypatch, gap) == 0
    report = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert report["n_prompts"] == sum(report["stop_reasons"].values()) == 2
    assert 0 < report["share_outside_tools"] < 1
    [note] = [note for note in report["notes"] if "missing" in note]
    assert re.fullmatch(
        r"1 of \d+ scores are missing \(no object is seen\); "
        "2 of 3 briefs are left, with 3 seeds and 3 renders",
        note,
    )
    for figures in (report["score"], report["correct"], report["attribution"]["brief"]):
        assert None not in numbers(figures)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == len(set(asked)), "an image was graded twice"


def test_too_many_unscored_images_end_it_with_the_reason(
    tmp_path, ddim_folder, monkeypatch, capsys
):
    assert gain(tmp_path, ddim_folder, monkeypatch, "fox-0 cat-0 dog-0 dog-3") == 2
    said = capsys.readouterr().err
    assert re.search(r"4 of \d+ scores are missing \(no object is seen\): at most 10%", said)
