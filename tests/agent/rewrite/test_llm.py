"""An LLM behind a real local HTTP server: what is asked of it, and which rewrites are tried."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from promptprobe.agent.rewrite.endpoint import LLM, Endpoint
from promptprobe.agent.rewrite.llm import LlmProposer
from promptprobe.agent.runner import run_loop
from tests.agent.llm_server import (
    BRIEF,
    GOOD,
    Answer,
    Server,
    accepted,
    completion,
    is_about,
    rewrites,
    run,
)
from tests.agent.scripted import ScriptedTools


def is_about_requirements(question: dict[str, Any]) -> bool:
    return is_about(question, "requirements")


def well(question: dict[str, Any]) -> Answer:
    if is_about_requirements(question):
        listed = [("object", "fox"), ("relation", "in the snow"), ("object", "a unicorn")]
        return completion({"requirements": [{"kind": k, "text": t} for k, t in listed]})
    return completion(
        rewrites(
            GOOD[0],
            "a fox and a dog in the snow",
            GOOD[1],
            "a cinematic animal in the snow",
        )
    )


def test_rewrites_of_an_llm_are_tried_and_those_that_change_the_brief_are_not(
    tmp_path: Path, server: Server
) -> None:
    server.script = well
    result = run(tmp_path)
    assert accepted(result) == set(GOOD)
    assert result.spent.llm_calls == len(server.asked) >= 2
    told = " ".join(result.warnings)
    assert "dog" in told
    assert "'fox'" in told  # "a cinematic animal" quotes a fox that it does not hold


def test_requirements_are_asked_once_and_only_those_that_quote_the_brief_count(
    tmp_path: Path, server: Server
) -> None:
    server.script = well
    run(tmp_path)
    assert sum(map(is_about_requirements, server.asked)) == 1
    told = json.loads(server.asked[1]["messages"][1]["content"])
    assert [r["text"] for r in told["requirements"]] == ["fox", "in the snow"]
    assert told["brief"] == BRIEF
    assert told["trials"][0]["scores"]
    assert told["trials"][0]["focus"].keys() == {"cat"}


def test_a_resumed_run_does_not_ask_again(tmp_path: Path, server: Server) -> None:
    server.script = well
    result = run(tmp_path)
    asked = len(server.asked)
    ledger = result.run_dir / "trials.jsonl"
    kept = [line for line in ledger.read_text().splitlines() if '"finished"' not in line]
    ledger.write_text("\n".join(kept) + "\n")
    (result.run_dir / "checkpoint.sqlite").unlink()
    proposer = LlmProposer(Endpoint(LLM(model="test-model")))
    again = asyncio.run(run_loop(result.run_dir, ScriptedTools(tmp_path / "log"), proposer))
    assert len(server.asked) == asked
    assert again.trials == result.trials


def test_hostile_prompts_are_refused_and_harm_nothing(tmp_path: Path, server: Server) -> None:
    hostile = [
        "",
        "x" * 50_000,
        "a fox \x00 in the snow",
        "../../etc/passwd fox snow",
        BRIEF.upper(),
    ]
    server.script = lambda question: (
        well(question) if is_about_requirements(question) else completion(rewrites(*hostile))
    )
    result = run(tmp_path)
    assert accepted(result) == set()
    assert all(len(message) < 700 for message in result.warnings)
