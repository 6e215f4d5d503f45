"""`promptprobe mcp | tools`: the doors for agents.

A command's implementation is imported when it is called, so that help is fast.
"""

from __future__ import annotations

import os
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Option

from promptprobe.agent.doors import options as o
from promptprobe.agent.doors.display import results
from promptprobe.agent.doors.schemas import checked
from promptprobe.agent.doors.tool_calls.owner import Owner
from promptprobe.tools.records import BUDGETS

OWNED = ("model", "scorer", "judge", "probe", "llm", "allow_model")
app = typer.Typer()


@app.command(rich_help_panel="For agents")
@o.with_pictures
@o.with_fields(Owner, *OWNED, panel=o.OWNER)
def mcp(
    context: typer.Context,
    out: Annotated[
        Path | None, Option(help="folder of runs (promptprobe/runs in your user data folder)")
    ] = None,
    http: Annotated[bool, Option("--http", help="serve over HTTP instead of stdio")] = False,
    host: Annotated[
        str, Option(help="address for --http; beyond loopback it needs PROMPTPROBE_MCP_TOKEN")
    ] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="port for --http; 0: any free port")] = 8765,
    allow_host: Annotated[
        list[str] | None, Option(help="another name by which HTTP clients reach this machine")
    ] = None,
    budget_cap: Annotated[
        Literal["light", "medium", "heavy"],
        Option(rich_help_panel=o.OWNER, help="the most that a call may ask for"),
    ] = "heavy",
) -> int:
    """Serve agents over MCP: optimize, probe, render and score.

    Agents can use only the models, scorer, judges, probe and LLM that you
    give here. A call may change the steps, guidance, size and negative prompt
    of a picture, and nothing else about it. Needs promptprobe\\[mcp].
    """

    def work() -> int:
        import asyncio

        import platformdirs

        from promptprobe.agent.doors.mcp.http import TOKEN, check_address, serve_http
        from promptprobe.agent.doors.mcp.server import serve_stdio
        from promptprobe.agent.run_folder import check_folder

        values = {name: context.params[name] for name in OWNED}
        given = {name: value for name, value in values.items() if value is not None}
        given["generation"] = o.generation_of(context.params)
        owner = checked(Owner, {**given, "budget_cap": BUDGETS[budget_cap]})
        folder = out or platformdirs.user_data_path("promptprobe", appauthor=False) / "runs"
        check_folder(folder, "--out")
        if not http:
            with redirect_stdout(results()):  # for the protocol; the SDK keeps it clean itself
                asyncio.run(serve_stdio(folder, owner))
            return o.DONE
        token = os.environ.get(TOKEN) or None
        check_address(host, token)
        asyncio.run(serve_http(folder, owner, host, port, tuple(allow_host or ()), token))
        return o.DONE

    return o.ended("mcp", work, lambda: "Runs are kept")


@app.command(rich_help_panel="For agents")
def tools(
    format: Annotated[
        Literal["openai", "anthropic", "json-schema"],
        Option(help="Chat Completions (strict mode), Messages, or JSON Schema for anything else"),
    ] = "openai",
) -> int:
    """Print the tools as JSON, for your own agent; promptprobe.call_tool runs its calls."""

    def work() -> int:
        from promptprobe.agent.doors.tool_calls.table import tool_schemas

        o.print_json(tool_schemas(format), indent=2)
        return o.DONE

    return o.ended("tools", work, lambda: "Nothing was changed")
