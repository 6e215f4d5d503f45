"""The server itself: tools and resources on the SDK's `MCPServer`, served over stdio.

The SDK keeps stdout for the protocol and sends whatever else is printed to stderr. The server ends
within seconds of Ctrl-C or of its client leaving, whatever the device is doing: everything that was
paid for is on disk.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from mcp import types
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from pydantic import Field

from promptprobe import __version__
from promptprobe.agent.doors.mcp import messages as m
from promptprobe.agent.doors.mcp.desk import Answer, Desk, draws
from promptprobe.agent.doors.mcp.files import KINDS, SCHEME
from promptprobe.agent.doors.mcp.jobs import Tell
from promptprobe.agent.doors.mcp.queue import BusyError
from promptprobe.agent.doors.schemas import Request, in_words
from promptprobe.agent.doors.tool_calls.owner import Owner
from promptprobe.agent.doors.tool_calls.table import TOOLS
from promptprobe.tools.endpoint.json_schema import json_schema
from promptprobe.tools.records import BUDGETS, Record

GRACE = 3.0
"""Seconds that work has to end between two steps before the process exits anyway."""
INTERRUPTED = 130
INSTRUCTIONS = (
    "promptprobe finds the prompt and seed with which a text-to-image model draws a brief best. "
    "You can be the rewriter: pass your own wordings as `prompts`, read the explanations of the "
    "rendered trials, and call again. A long call returns a job id; call again with it. "
    "Pictures are linked resources; each result shows one small thumbnail."
)
READ_ONLY = ("list_runs", "score_image", "list_models")
Handler = Callable[[Mapping[str, Any], Tell], Awaitable[Answer]]
Means = tuple[type[Request], type[Record], Handler]
"""A tool's arguments, its reply and its handler."""


class DeskTool(Tool):
    """A tool that checks its own arguments, so that errors are a single line."""

    handler: Handler = Field(exclude=True)

    async def run(
        self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False
    ) -> types.CallToolResult:
        """Run a call. Raises ToolError with the reason if it fails."""
        last = 0.0

        async def tell(done: float, total: float, message: str) -> None:
            nonlocal last  # MCP wants each number larger than the one before
            last = max(done, last + 1e-3)
            await context.report_progress(last, max(total, last), message)

        try:
            reply, content = await self.handler(arguments, tell)
        except (ValueError, OSError, RuntimeError, MemoryError, BusyError) as error:
            raise ToolError(in_words(error)) from error
        text = types.TextContent(text=reply.model_dump_json())
        return types.CallToolResult(
            content=[text, *content], structured_content=reply.model_dump(mode="json")
        )


def build_server(desk: Desk, **options: Any) -> MCPServer:
    """The server of a desk; `options` are passed to the SDK."""
    server = MCPServer(
        "promptprobe",
        version=__version__,
        instructions=INSTRUCTIONS,
        tools=_tools(desk),
        log_level="ERROR",
        **options,
    )
    for kind, mime_type in KINDS.items():
        template = f"{SCHEME}://{kind}/{{+path}}"
        server.resource(template, name=f"{kind} files of results", mime_type=mime_type)(
            _reader(desk, kind)
        )
    return server


def _reader(desk: Desk, kind: str) -> Callable[[str], bytes]:
    def read(path: str) -> bytes:
        """A file that a result links to."""
        try:
            return desk.files.read(path, kind)
        except ValueError as error:
            raise ResourceError(str(error)) from error

    return read


def _tools(desk: Desk) -> list[Tool]:
    owner = desk.owner
    model = f"Draws with {owner.model}: {draws(owner.model)}."
    named = owner.models if owner.allow_model else ()
    settings = owner.generation.model_dump(exclude_none=True)
    rewriter = f" Without `prompts`, {owner.llm} proposes rewrites." if owner.llm else ""
    optimize, probe = (TOOLS[name].description for name in ("optimize_prompt", "probe_prompts"))
    means: dict[str, Means] = {
        "optimize_prompt": (m.OptimizeCall, m.Optimization, desk.optimize_prompt),
        "get_optimization": (m.GetOptimization, m.Optimization, desk.get_optimization),
        "cancel_optimization": (m.CancelOptimization, m.Optimization, desk.cancel_optimization),
        "list_runs": (m.ListRuns, m.Runs, desk.list_runs),
        "probe_prompts": (m.ProbeCall, m.Probes, desk.probe_prompts),
        "render_image": (m.RenderImage, m.Drawn, desk.render_image),
        "score_image": (m.ScoreImage, m.Scored, desk.score_image),
        "list_models": (m.ListModels, m.Models, desk.list_models),
    }
    descriptions = {
        "optimize_prompt": f"{optimize}{rewriter} {model} {_cost(desk)}",
        "get_optimization": "Get the state of an optimization and the best so far; waits for its "
        "end, and resumes one that was cut off.",
        "cancel_optimization": "End an optimization between two steps; what it has drawn is kept.",
        "list_runs": "List the newest optimizations of this server, with their job ids.",
        "probe_prompts": f"{probe} {model}",
        "render_image": f"Draw one prompt with one seed in full. {model}",
        "score_image": "Score a picture of this server against a brief.",
        "list_models": "List the models of this server and what they draw, the judges and caps.",
    }
    return [
        _tool(name, descriptions[name], found, named if name in TOOLS else (), settings)
        for name, found in means.items()
    ]


def _cost(desk: Desk) -> str:
    """What a call costs on this server, as far as known."""
    spent = [job.seconds for _, job in desk.jobs.recent(5) if job.seconds is not None]
    took = f" The last one took {spent[0]:.0f} seconds here." if spent else ""
    worth = ", ".join(f"{name} {budget.renders:g}" for name, budget in BUDGETS.items())
    most = f"{desk.owner.budget_cap.renders:g}"
    return f"A budget is denoising in full renders' worth ({worth}; here at most {most}).{took}"


def _tool(
    name: str,
    description: str,
    means: Means,
    model: tuple[str, ...],
    settings: Mapping[str, Any],
) -> Tool:
    arguments, reply, handler = means
    schema = json_schema(arguments)
    if picture := schema["properties"].get("generation"):
        for one in picture["properties"].keys() & settings.keys():
            picture["properties"][one]["default"] = picture["default"][one] = settings[one]
    if model:
        schema["properties"]["model"] = {
            "type": "string",
            "enum": list(model),
            "default": model[0],
            "description": "model that draws",
        }
    return DeskTool(
        fn=handler,
        name=name,
        description=description,
        parameters=schema,
        fn_metadata=FuncMetadata(
            arg_model=ArgModelBase, output_schema=json_schema(reply, mode="serialization")
        ),
        is_async=True,
        annotations=types.ToolAnnotations(read_only_hint=name in READ_ONLY, destructive_hint=False),
        handler=handler,
    )


# -- serving -----------------------------------------------------------------------------------


def leave_after_grace(code: int) -> None:
    """End the process in `GRACE` seconds, whatever its threads are doing."""
    timer = threading.Timer(GRACE, os._exit, [code])
    timer.daemon = True
    timer.start()


async def serve_stdio(out: Path, owner: Owner) -> None:
    """Serve one client over stdin and stdout until it leaves or Ctrl-C; ends the process."""
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR)
    desk = Desk(out, owner)
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    serving = asyncio.create_task(build_server(desk).run_stdio_async())
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    code = INTERRUPTED if stopped.is_set() else 0
    leave_after_grace(code)
    await desk.jobs.close()
    if serving.done() and serving.exception() is not None:
        await serving
    os._exit(code)  # a normal exit would wait for the thread that still reads stdin
