"""An LLM behind a real local HTTP server: what is asked of it, and which rewrites are tried."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from promptprobe.agent.rewrite.llm import LlmProposer
from promptprobe.agent.runner import run_loop
from promptprobe.tools.endpoint.endpoint import LLM, Endpoint
from tests.agent.llm_server import (
    BRIEF,
    GOOD,
    Answer,
    Server,
    accepted,
    completion,
    is_about,
    judgements,
    rewrites,
    run,
)
from tests.agent.scripted import ScriptedTools, start

DOG = "a fox chased by a dog in the snow"
DESERT = "a fox in the desert"
NO_FOX = "a cinematic animal in the snow"


def is_about_requirements(question: dict[str, Any]) -> bool:
    return is_about(question, "requirements") and not is_about(question, "judgements")


def well(question: dict[str, Any]) -> Answer:
    if is_about(question, "judgements"):
        found = {
            DOG: {"added": ["a dog"]},
            DESERT: {"contradicted": ["in the snow"]},
            NO_FOX: {"dropped": ["fox", "Fox", "a tail, which nobody asked for"]},
        }
        return completion(judgements(question, **found))
    if is_about_requirements(question):
        listed = [("object", "fox"), ("relation", "in the snow"), ("object", "a unicorn")]
        twice = [{"kind": k, "text": t} for k, t in listed * 2]  # as small models do
        return completion({"requirements": twice})
    return completion(rewrites(GOOD[0], DESERT, DOG, NO_FOX))


@pytest.mark.parametrize(("freedom", "dog"), [("enrich", {DOG}), ("faithful", set())])
def test_rewrites_that_keep_each_requirement_are_tried_and_the_others_refused_in_plain_words(
    freedom: str, dog: set[str], tmp_path: Path, server: Server
) -> None:
    server.script = well
    result = run(tmp_path, rewrite=freedom)
    assert accepted(result) == {GOOD[0], *dog}
    told = " ".join(result.warnings)
    assert "it contradicts 'in the snow'" in told
    assert "it drops 'fox'" in told
    assert "'fox', 'fox'" not in told
    assert "tail" not in told
    assert ("it adds a dog" in told) == (freedom == "faithful")


def test_where_the_llm_does_not_judge_its_claims_decide_with_a_notice(
    tmp_path: Path, server: Server
) -> None:
    server.script = lambda question: (
        completion("no idea") if is_about(question, "judgements") else well(question)
    )
    result = run(tmp_path)
    assert NO_FOX not in accepted(result)  # it quotes a fox that it does not hold
    assert GOOD[0] in accepted(result)
    assert any("its own claims decide" in message for message in result.warnings)


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
    assert told["image_model"]
    assert "focus" not in told["trials"][0]


def test_a_rewrite_in_the_syntax_of_other_programs_gets_the_notice_of_a_callers_prompt(
    tmp_path: Path, server: Server
) -> None:
    weighted = "a (red:1.3) fox in the snow"
    server.script = lambda question: (
        completion(rewrites(weighted)) if is_about(question, "rewrites") else well(question)
    )
    result = run(tmp_path)
    assert accepted(result) == {weighted}
    assert [message for message in result.warnings if "'(red:1.3)' is syntax of other" in message]


def test_guidance_is_told(tmp_path: Path, server: Server) -> None:
    server.script = well
    run(tmp_path, guidance="tags, not sentences")
    told = json.loads(server.asked[1]["messages"][1]["content"])
    assert told["guidance"] == "tags, not sentences"


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
        BRIEF.upper(),
    ]
    server.script = lambda question: (
        well(question) if is_about_requirements(question) else completion(rewrites(*hostile))
    )
    result = run(tmp_path)
    assert accepted(result) == set()
    assert all(len(message) < 700 for message in result.warnings)


def test_a_rewrite_whose_asked_for_words_are_never_read_is_refused_and_the_llm_told(
    tmp_path: Path, server: Server
) -> None:
    long = "crisp winter light over distant blue hills, a fox in the snow"
    server.script = lambda question: (
        completion(rewrites(long, GOOD[1])) if is_about(question, "meets") else well(question)
    )
    asked = LLM(model="test-model")
    run_dir = start(tmp_path, "heavy", brief=BRIEF, llm=asked.model)
    tools = ScriptedTools(tmp_path / "log", reads=8, cut=("snow",))
    result = asyncio.run(run_loop(run_dir, tools, LlmProposer(Endpoint(asked))))
    assert accepted(result) == {GOOD[1]}
    assert any("the encoder never reads: fox, snow" in message for message in result.warnings)
    told = [
        json.loads(question["messages"][1]["content"])
        for question in server.asked
        if is_about(question, "meets")
    ]
    assert told[0]["never_read"] == ["snow"]
    assert told[0]["trials"][0]["never_read"] == ["snow"]
    assert "never reads" in told[1]["refused"][0]["reason"]


def test_where_nothing_listed_quotes_the_brief_the_whole_brief_is_the_one_requirement(
    tmp_path: Path, server: Server
) -> None:
    def drifting(question: dict[str, Any]) -> Answer:
        if is_about_requirements(question):
            return completion({"requirements": [{"kind": "object", "text": "a unicorn"}]})
        if is_about(question, "judgements"):
            return completion(judgements(question))
        named = [{"requirement": BRIEF, "phrase": GOOD[0]}]
        offers = [{"prompt": GOOD[0], "meets": named}, {"prompt": "a recipe", "meets": []}]
        return completion({"rewrites": offers})

    server.script = drifting
    result = run(tmp_path)
    assert accepted(result) == {GOOD[0]}
    assert any(f"where it meets {BRIEF!r}" in message for message in result.warnings)
