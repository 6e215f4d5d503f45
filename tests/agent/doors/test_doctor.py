"""`promptprobe doctor`: what is there is said, and what is wrong makes the exit code 1."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from promptprobe.__main__ import main
from promptprobe.tools.doctor import EXTRAS
from tests.hub import Hub, serving

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub that answers at once; one that cannot be reached is asked six times in 23 seconds."""
    with serving(Hub({})) as hub:
        url = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url)
        yield


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["doctor", *arguments, "--json"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    return code, {finding["name"]: finding for finding in findings}


def test_a_model_that_works_is_told_with_its_scorer_and_its_probe(
    saved_pipeline: Any, clip_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(saved_pipeline("ddim"))
    code, findings = found(capsys, "--model", model, "--scorer", f"clip:{clip_folder}")
    assert code == 0
    assert "StableDiffusionPipeline on cpu in float32" in findings["model"]["found"]
    assert "attention layers equal a plain softmax" in findings["self-check"]["found"]
    assert findings["scorer"]["found"] == f"clip:{clip_folder} opens"
    assert "does not answer" in findings["hub"]["found"]


def test_a_model_is_checked_with_the_settings_that_a_run_would_have(
    saved_pipeline: Any, clip_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", str(saved_pipeline("ddim")), "--scorer", f"clip:{clip_folder}"]
    settings = ["--steps", "4", "--scheduler", "LCMScheduler", "--dtype", "bfloat16"]
    code, findings = found(capsys, *model, *settings)
    assert code == 0
    assert "in bfloat16: 32 x 32 pixels, 4 steps" in findings["model"]["found"]
    code, findings = found(capsys, *model, "--height", "33")
    assert code == 1
    assert "multiple of 8" in findings["scorer and probe"]["problem"]
    assert main(["doctor", *settings]) == 2


@pytest.mark.parametrize(
    ("arguments", "name", "problem"),
    [
        (["--model", "no such model"], "model", "no such model"),
        (["--model", "sprites", "--scorer", "taste"], "scorer and probe", "taste"),
        (["--model", "sprites", "--probe", "nowhere/probe"], "scorer and probe", "nowhere/probe"),
        (["--llm", "some-model"], "llm", "OPENAI_API_KEY"),
    ],
)
def test_what_is_wrong_is_named_and_ends_with_1(
    arguments: list[str], name: str, problem: str, hub: None, capsys: pytest.CaptureFixture[str]
) -> None:
    code, findings = found(capsys, *arguments)
    assert code == 1
    assert problem in findings[name]["problem"]


def test_a_lora_without_its_library_is_a_finding_like_others(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    code, findings = found(capsys, "--model", "sprites", "--lora", "ink.safetensors")
    assert code == 1
    assert findings["model"]["problem"] == "LoRA needs peft: pip install 'promptprobe[lora]'"


def test_a_scorer_without_a_model_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--scorer", "sprites"]) == 2
    assert "give --model too" in capsys.readouterr().err


def test_every_extra_is_looked_at() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS.values()) == set(project["optional-dependencies"]) - {"dev"}
