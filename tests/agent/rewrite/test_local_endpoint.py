"""`--llm local:FOLDER`: a run's questions answered in this process, by a model made of noise."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from promptprobe.__main__ import main
from promptprobe.agent.given import choose_proposer
from promptprobe.agent.rewrite.llm import Requirements, Rewrites
from promptprobe.tools.endpoint.endpoint import LLM
from promptprobe.tools.endpoint.local_endpoint import MOST_ITEMS, LocalEndpoint
from tests.tiny.language import save_language_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_language_model(tmp_path_factory.mktemp("llm"))


def test_an_answer_is_json_of_the_schema_with_an_end(folder: Path) -> None:
    endpoint = LocalEndpoint(LLM(model=f"local:{folder}", temperature=1.5, max_tokens=2000))
    reply = asyncio.run(endpoint.ask("List.", '{"request": "a fox"}', Requirements))
    assert reply.text is not None, reply.problem
    listed = Requirements.model_validate_json(reply.text).requirements
    assert len(listed) <= MOST_ITEMS
    assert reply.tokens > 0
    assert asyncio.run(endpoint.ask("List.", '{"request": "a fox"}', Requirements)) == reply


def test_time_that_runs_out_is_a_problem_in_words(folder: Path) -> None:
    endpoint = LocalEndpoint(LLM(model=f"local:{folder}", timeout=1e-6))
    reply = asyncio.run(endpoint.ask("Write.", "{}", Rewrites))
    assert reply.text is None or "limit" in reply.problem
    assert "length or time limit" in reply.problem


def test_a_run_goes_on_whatever_the_model_writes(
    folder: Path,
    ddim_folder: Path,
    clip_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    drawn = ["--model", str(ddim_folder), "--scorer", f"clip:{clip_folder}", "--steps", "5"]
    llm = ["--llm", f"local:{folder}", "--llm-max-tokens", "300"]
    code = main(["optimize", "a fox in snow", *drawn, *llm, "--out", str(tmp_path), "--json"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    result = json.loads(shown.out)
    assert result["best"]["image"]
    assert result["spent"]["tokens"] > 0


def test_a_folder_without_a_model_ends_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.json"):
        choose_proposer(LLM(model=f"local:{tmp_path}"), None, "enrich", "")
