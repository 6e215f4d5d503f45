"""Several scorers select as one, through every door, and again when a run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from promptprobe import Generation, Session, optimize_prompt
from promptprobe.__main__ import main
from promptprobe.agent.doors.schemas import MAX_JUDGES, OptimizeRequest, checked
from promptprobe.agent.doors.tool_calls.owner import Owner
from promptprobe.agent.run_folder import read

FEW_STEPS = Generation(steps=5)
JUDGE = """
def light(brief, image):
    print("a judge that prints")
    return image.convert("L").resize((1, 1)).getpixel((0, 0)) / 255
"""


def darkness(brief: str, image: Any) -> float:
    return 1 - sum(image.convert("L").resize((1, 1)).tobytes()) / 255


@pytest.fixture
def light(tmp_path: Path) -> str:
    (tmp_path / "judge.py").write_text(JUDGE)
    return f"python:{tmp_path / 'judge.py'}:light"


def test_the_command_joins_them_stores_their_name_and_goes_on_with_the_same(
    ddim_folder: Path,
    clip_folder: Path,
    light: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clip = f"clip:{clip_folder}"
    name, asked = f"{clip} + {light}", ["--scorer", clip, "--scorer", light]
    model = ["--model", str(ddim_folder), "--steps", "3", "--rewrite", "off", "--budget", "2"]
    runs = tmp_path / "runs"
    options = [*model, "--judge", light, "--json", "--out", str(runs)]
    assert main(["optimize", "a red cat", *asked, *options]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["scorer"] == name
    assert "a judge that prints" in said.err
    assert f"selector and judge are the same ({light})" in said.err
    (run,) = runs.iterdir()
    assert read(run).scorer == name
    go_on = ["optimize", "--resume", str(run), "--judge", light, "--json"]
    assert main(go_on) == 2
    assert "a folder must not decide whose code runs here" in capsys.readouterr().err
    assert main([*go_on, "--scorer", light, "--scorer", clip]) == 2
    assert f"this run's scorer is {clip!r} and {light!r}, got" in capsys.readouterr().err
    assert main([*go_on, *asked]) == 0
    assert json.loads(capsys.readouterr().out)["best"] == found["best"]


def test_names_and_functions_mix_in_python_and_a_run_goes_on_where_they_are_given_again(
    ddim_folder: Path, tmp_path: Path
) -> None:
    scorers: list[Any] = ["critic:sprites", darkness]
    given: dict[str, Any] = {"model": ddim_folder, "out": tmp_path, "budget": 2}
    result = optimize_prompt(
        "a red cat", scorer=scorers, generation=FEW_STEPS, rewrite="off", **given
    )
    assert result.scorer == "critic:sprites + darkness"
    assert result.best.score is not None
    assert "; darkness 0." in result.best.score.explanation
    assert read(result.run_dir).objects == ("scorer",)
    with pytest.raises(ValueError, match="scorer that is a Python object: give it again"):
        optimize_prompt(resume=result.run_dir)
    session = Session(ddim_folder, scorer=tuple(scorers), generation=FEW_STEPS)
    assert session.optimize(resume=result.run_dir).best == result.best


@pytest.mark.parametrize("both", [["sprites", "clip:sprites"], ["clip:sprites", "sprites"]])
def test_a_probe_of_one_of_them_is_not_used_and_the_run_says_so(
    both: list[str], tmp_path: Path
) -> None:
    result = optimize_prompt("a red cat", scorer=both, budget=1, rewrite="off", out=tmp_path)
    assert result.best.prediction is None or result.best.prediction.basis == "preview"
    (note,) = [said for said in result.warnings if "no probe fits" in said]
    assert "the scorer in use gives 'clip:sprites + sprites score'" in note, "in any order"
    assert "judged by previews instead" in note


def test_requests_take_a_list_or_one_name_and_bound_their_number() -> None:
    one = checked(OptimizeRequest, {"brief": "a", "scorer": ["ocr", "pickscore"]})
    assert one.scorer == Owner(scorer=("ocr", "pickscore")).scorer == "ocr + pickscore"
    assert checked(OptimizeRequest, {"brief": "a", "scorer": []}).scorer is None
    with pytest.raises(ValueError, match=rf"scorer: expected at most {MAX_JUDGES} scorers, got 9"):
        checked(OptimizeRequest, {"brief": "a", "scorer": list("abcdefghi")})
    with pytest.raises(ValueError, match="scorer: expected names of judges, got"):
        checked(OptimizeRequest, {"brief": "a", "scorer": ["ocr", 5]})
