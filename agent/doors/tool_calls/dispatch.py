"""Runs tool calls from an agent's own loop, and offers the same tools to LangChain and LangGraph.

An agent decides what `tool_schemas` shows; the owner decides the rest. A call that fails is
answered with a message that an LLM can act on, never with an exception.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextvars import Context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptprobe.agent.doors.replies import OptimizeReply
from promptprobe.agent.doors.schemas import in_words
from promptprobe.agent.doors.tool_calls.owner import Owner
from promptprobe.agent.doors.tool_calls.table import TOOLS
from promptprobe.tools.endpoint.json_schema import json_schema
from promptprobe.tools.nearest import did_you_mean
from promptprobe.tools.records import Record

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable
    from langchain_core.tools import StructuredTool

MAX_ARGUMENTS = 1_000_000
"""Maximum characters of a call's arguments."""


async def acall_tool(
    name: str,
    arguments: str | Mapping[str, Any] | None,
    *,
    owner: Owner | None = None,
    out: str | Path = "runs",
) -> str:
    """Run one call of a tool.

    Args:
        name: the tool, as the LLM called it.
        arguments: the LLM's arguments, as an object or its JSON text; None: no arguments.
        owner: model, scorer, probe, LLM and caps; None: the built-in model.
        out: folder of runs.

    Returns:
        The content of the tool's message, as JSON text: the result, or {"error": ...} if the call
        fails.
    """

    async def call() -> str:
        try:
            reply = await _reply(name, _object(arguments), owner or Owner(), Path(out))
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            return json.dumps({"error": in_words(error)})
        return reply.model_dump_json()

    # In its own context: an enclosing LangGraph would take our graph for a part of itself.
    return await asyncio.create_task(call(), context=Context())


def call_tool(
    name: str,
    arguments: str | Mapping[str, Any] | None,
    *,
    owner: Owner | None = None,
    out: str | Path = "runs",
) -> str:
    """`acall_tool` for code that does not await."""
    from promptprobe.agent.optimize import wait_for

    return wait_for(acall_tool(name, arguments, owner=owner, out=out))


def langchain_tools(
    *, owner: Owner | None = None, out: str | Path = "runs"
) -> list[StructuredTool]:
    """The same tools for LangChain and for LangGraph's agents."""
    from langchain_core.tools import StructuredTool

    def made(name: str) -> StructuredTool:
        def run(**arguments: Any) -> str:
            return call_tool(name, arguments, owner=owner, out=out)

        async def arun(**arguments: Any) -> str:
            return await acall_tool(name, arguments, owner=owner, out=out)

        return StructuredTool.from_function(
            func=run,
            coroutine=arun,
            name=name,
            description=TOOLS[name].description,
            args_schema=json_schema(TOOLS[name].arguments),
        )

    return [made(name) for name in TOOLS]


def as_node(
    *, owner: Owner | None = None, out: str | Path = "runs", key: str = "optimization"
) -> Runnable[Any, dict[str, Any]]:
    """A node for your own LangGraph graph, with any state and context.

    It reads `brief`, and `prompts` if present, from a state that is a mapping, and sets `key` to
    the reply of `call_tool`, as a plain dict that every checkpointer can store.
    """
    from langchain_core.runnables import RunnableLambda

    def arguments(state: Mapping[str, Any]) -> dict[str, Any]:
        return {name: state[name] for name in ("brief", "prompts") if state.get(name)}

    def run(state: Mapping[str, Any]) -> dict[str, Any]:
        reply = call_tool("optimize_prompt", arguments(state), owner=owner, out=out)
        return {key: json.loads(reply)}

    async def arun(state: Mapping[str, Any]) -> dict[str, Any]:
        reply = await acall_tool("optimize_prompt", arguments(state), owner=owner, out=out)
        return {key: json.loads(reply)}

    return RunnableLambda(run, arun)


def _object(arguments: str | Mapping[str, Any] | None) -> Mapping[str, Any]:
    found: object = arguments or {}  # some servers send null or "" for no arguments
    if isinstance(found, str):
        if len(found) > MAX_ARGUMENTS:
            raise ValueError(f"arguments: at most {MAX_ARGUMENTS:,} characters, got {len(found):,}")
        try:
            found = json.loads(found)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"arguments: expected a JSON object, got no JSON: {error}") from error
    if not isinstance(found, Mapping):
        raise ValueError(f"arguments: expected a JSON object, got a {type(found).__name__}")
    return found


async def _reply(name: str, given: Mapping[str, Any], owner: Owner, out: Path) -> Record:
    from promptprobe.agent.optimize import start
    from promptprobe.agent.probe_prompts import answer

    if name == "optimize_prompt":
        return OptimizeReply.of(await start(owner.optimize_request(given), out))
    if name == "probe_prompts":
        request = owner.probe_request(given)
        return await asyncio.to_thread(answer, request, lambda *_: None)
    meant = did_you_mean(name, TOOLS)
    raise ValueError(f"there is no tool {name!r:.80}{meant}: expected one of {', '.join(TOOLS)}")
