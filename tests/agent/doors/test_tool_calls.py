"""Tool calls of an agent's own loop: what they answer."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from promptprobe import Owner, acall_tool, as_node, call_tool, langchain_tools

FEW = {"steps": 3}


@pytest.fixture
def owner(ddim_folder: Path, clip_folder: Path) -> Owner:
    cap = {"renders": 2}
    return Owner.model_validate(
        {"model": str(ddim_folder), "scorer": f"clip:{clip_folder}", "budget_cap": cap}
    )


@pytest.mark.parametrize("as_text", [False, True])
def test_a_call_is_answered_with_json(owner: Owner, tmp_path: Path, as_text: bool) -> None:
    given: Any = {"brief": "a red cat", "generation": FEW}
    said = call_tool(
        "optimize_prompt", json.dumps(given) if as_text else given, owner=owner, out=tmp_path
    )
    found = json.loads(said)
    assert found["brief"] == "a red cat"
    assert Path(found["best"]["image"]).is_file()


def test_predictions_are_had_in_a_running_loop(owner: Owner, tmp_path: Path) -> None:
    wordings = ["a red cat", "a cat that is red"]
    given = {"brief": "a red cat", "prompts": wordings, "generation": FEW}
    found = json.loads(asyncio.run(acall_tool("probe_prompts", given, owner=owner, out=tmp_path)))
    assert {row["prompt"] for row in found["candidates"]} == set(wordings)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "arguments", "problem"),
    [
        ("paint", "{}", "there is no tool 'paint': expected one of optimize_prompt"),
        (None, "{}", "there is no tool None: expected one of optimize_prompt"),
        ("optimize_prompt", "{not json", "arguments: expected a JSON object, got no JSON"),
        ("optimize_prompt", "[" * 100_000, "arguments: expected a JSON object, got no JSON"),
        ("optimize_prompt", None, "brief: Field required"),
        ("optimize_prompt", 5, "arguments: expected a JSON object, got a int"),
        ("optimize_prompt", "[1]", "expected a JSON object, got a list"),
        ("optimize_prompt", "{}", "brief"),
        ("optimize_prompt", '{"brief": "a cat", "model": "another"}', "model"),
        ("optimize_prompt", '{"brief": "a cat", "budget": 24}', "allows renders at most 2"),
        ("optimize_prompt", '{"brief": "' + "a" * 1_000_000 + '"}', "at most 1,000,000 characters"),
    ],
)
def test_a_call_that_cannot_be_done_is_an_answer_too(
    owner: Owner, tmp_path: Path, name: Any, arguments: Any, problem: str
) -> None:
    said = json.loads(call_tool(name, arguments, owner=owner, out=tmp_path))
    assert problem in said["error"]
    assert len(said["error"]) < 1000


@dataclass
class Mine:
    number: int


class Parent(TypedDict, total=False):
    brief: str
    note: str
    optimization: dict[str, Any]


@pytest.mark.parametrize("awaits", [False, True])
def test_a_node_works_in_a_graph_with_a_checkpointer_and_a_context_of_its_own(
    owner: Owner, tmp_path: Path, awaits: bool
) -> None:
    graph = StateGraph(Parent, context_schema=Mine)
    graph.add_node("draw", as_node(owner=owner, out=tmp_path))
    graph.add_edge(START, "draw")
    graph.add_edge("draw", END)
    compiled = graph.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "parent"}}
    asked: Parent = {"brief": "a red cat", "note": "kept"}
    if awaits:
        state = asyncio.run(compiled.ainvoke(asked, config, context=Mine(1)))
    else:
        state = compiled.invoke(asked, config, context=Mine(1))
    assert state["note"] == "kept"
    assert state["optimization"]["stop_reason"]
    saved = compiled.get_state(config).values
    assert saved["optimization"] == state["optimization"]


def test_langchain_calls_the_tools(owner: Owner, tmp_path: Path) -> None:
    optimize, probe = langchain_tools(owner=owner, out=tmp_path)
    assert {"brief", "prompts"} <= set(probe.args)
    found = json.loads(asyncio.run(optimize.ainvoke({"brief": "a red cat", "generation": FEW})))
    assert found["brief"] == "a red cat"
