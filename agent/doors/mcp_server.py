"""promptprobe for agents: an MCP server over stdio, on the official SDK.

Its tools are the models of `schemas`, its answers those of `replies`. The SDK keeps stdout for the
protocol and sends whatever else is printed to stderr. A call reports progress at least every few
seconds, because clients end calls that stay silent; one call works at a time, because they share
the machine.
"""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from mcp import types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError

from promptprobe import __version__
from promptprobe.agent.doors.display import Meter, describe
from promptprobe.agent.doors.replies import OptimizeReply
from promptprobe.agent.doors.schemas import OptimizeRequest, ProbeRequest
from promptprobe.agent.doors.tool_calls.owner import Owner
from promptprobe.agent.doors.tool_calls.table import TOOLS
from promptprobe.agent.events import Event
from promptprobe.agent.optimize import start, wait_for
from promptprobe.agent.probe_prompts import Report, answer
from promptprobe.tools.endpoint.json_schema import json_schema
from promptprobe.tools.pictures.png import thumbnail
from promptprobe.tools.records import Record

HEARTBEAT = 5.0
THUMBNAIL = 256
TYPES = {".png": "image/png", ".jsonl": "application/jsonl", ".json": "application/json"}
INSTRUCTIONS = (
    "promptprobe finds the prompt and seed with which a text-to-image model draws a brief best. "
    "You can be the rewriter: pass your own wordings as `prompts`, read the explanations of the "
    "rendered trials, and call again. Pictures are files; each result has one small thumbnail."
)
CallContext = ServerRequestContext[Any, Any]
Reports = asyncio.Queue[tuple[float, float, str] | None]
"""What a call's work tells: done, total, in words; None at its end."""


class CallCancelledError(Exception):
    """The client ended the call; raised inside the work to stop it."""


class Doors:
    """The handlers of one connection, and the files that they have linked to."""

    def __init__(self, out: Path, owner: Owner) -> None:
        self.out, self.owner = out, owner
        self.linked: dict[str, Path] = {}
        self._busy = threading.Lock()

    async def list_tools(self, _: CallContext, __: object) -> types.ListToolsResult:
        """The tools with the schemas of their arguments and results."""
        return types.ListToolsResult(
            tools=[
                types.Tool(
                    name=name,
                    description=spec.description,
                    input_schema=json_schema(spec.arguments),
                    output_schema=json_schema(spec.reply, mode="serialization"),
                    annotations=types.ToolAnnotations(destructive_hint=False),
                )
                for name, spec in TOOLS.items()
            ]
        )

    async def call_tool(
        self, context: CallContext, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        """Check the arguments and do the work in a thread; what goes wrong is the answer."""
        if params.name not in TOOLS:
            return _failure(f"unknown tool {params.name!r}; expected one of {', '.join(TOOLS)}")
        given = params.arguments or {}
        request: OptimizeRequest | ProbeRequest
        try:
            if params.name == "probe_prompts":
                request = self.owner.probe_request(given)
            else:
                request = self.owner.optimize_request(given)
        except ValueError as error:
            return _failure(str(error))
        return await self._with_progress(context, partial(self._answer, request))

    def _answer(
        self, request: OptimizeRequest | ProbeRequest, report: Report
    ) -> types.CallToolResult:
        try:
            with self._busy:
                report(0, 1, "opening the model")
                if isinstance(request, ProbeRequest):
                    return _success(answer(request, report), [])
                return self._optimize(request, report)
        except (ValueError, OSError, RuntimeError) as error:
            return _failure(str(error))

    def _optimize(self, request: OptimizeRequest, report: Report) -> types.CallToolResult:
        meter = Meter()

        def tell(event: Event) -> None:
            meter.update(event)
            report(meter.done, meter.total, describe(event))

        result = wait_for(start(request, self.out, tell))
        content: list[types.ContentBlock] = []
        if result.best.image is not None:
            small = base64.b64encode(thumbnail(result.best.image, THUMBNAIL)).decode()
            content.append(types.ImageContent(data=small, mime_type="image/png"))
        files = {
            "best picture": result.best.image,
            "initial picture": result.initial.image,
            "contact sheet": result.contact_sheet,
            "all trials": result.run_dir / "trials.jsonl",
        }
        content += [self._link(name, path) for name, path in files.items() if path is not None]
        return _success(OptimizeReply.of(result), content)

    def _link(self, name: str, path: Path) -> types.ResourceLink:
        path = path.resolve()
        self.linked[path.as_uri()] = path
        return types.ResourceLink(name=name, uri=path.as_uri(), mime_type=TYPES.get(path.suffix))

    async def list_resources(self, _: CallContext, __: object) -> types.ListResourcesResult:
        """The files that results have linked to."""
        return types.ListResourcesResult(
            resources=[
                types.Resource(name=path.name, uri=uri, mime_type=TYPES.get(path.suffix))
                for uri, path in self.linked.items()
            ]
        )

    async def read_resource(
        self, _: CallContext, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        """A linked file; no other file of the machine can be read."""
        path = self.linked.get(params.uri)
        if path is None or not path.is_file():
            raise MCPError(
                types.INVALID_PARAMS, f"expected the link of a result, got {params.uri[:200]!r}"
            )
        data = base64.b64encode(await asyncio.to_thread(path.read_bytes)).decode()
        blob = types.BlobResourceContents(
            uri=params.uri, blob=data, mime_type=TYPES.get(path.suffix)
        )
        return types.ReadResourceResult(contents=[blob])

    async def _with_progress(
        self, context: CallContext, work: Callable[[Report], types.CallToolResult]
    ) -> types.CallToolResult:
        """Run blocking work in a thread and pass on what it reports; stop it when cancelled."""
        loop = asyncio.get_running_loop()
        reports: Reports = asyncio.Queue()
        stopped = threading.Event()

        def report(done: float, total: float, message: str) -> None:
            if stopped.is_set():
                raise CallCancelledError
            loop.call_soon_threadsafe(reports.put_nowait, (done, total, message))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_tell(context, reports))
            try:
                return await asyncio.to_thread(work, report)
            finally:
                stopped.set()
                reports.put_nowait(None)


async def _tell(context: CallContext, reports: Reports) -> None:
    """Progress notifications, each with a larger number than the one before, as MCP wants."""
    last, total, message = 0.0, 1.0, "waiting for an earlier call to end"
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT):
                told = await reports.get()
            if told is None:
                return
            done, total, message = told
            last = max(last, done)
        last += 1e-3
        await context.session.report_progress(last, max(total, last), message)


def _success(reply: Record, content: list[types.ContentBlock]) -> types.CallToolResult:
    text = types.TextContent(text=reply.model_dump_json())
    return types.CallToolResult(
        content=[text, *content], structured_content=reply.model_dump(mode="json")
    )


def _failure(message: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=message)], is_error=True)


def build_server(out: Path, owner: Owner) -> Server[Any]:
    """The server, with its runs under `out`."""
    doors = Doors(out, owner)
    return Server(
        "promptprobe",
        version=__version__,
        instructions=INSTRUCTIONS,
        on_list_tools=doors.list_tools,
        on_call_tool=doors.call_tool,
        on_list_resources=doors.list_resources,
        on_read_resource=doors.read_resource,
    )


async def serve(out: Path, owner: Owner) -> None:
    """Serve one client over stdin and stdout until it goes."""
    server = build_server(out, owner)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())
