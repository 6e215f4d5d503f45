"""The MCP server as a fresh client of the official SDK meets it, over stdio and in process."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters, types
from mcp.shared.exceptions import MCPError
from PIL import Image

from promptprobe.agent.doors.mcp_server import THUMBNAIL, build_server
from promptprobe.agent.doors.replies import MAX_TRIALS, OptimizeReply, ProbeReply
from promptprobe.agent.doors.tool_calls.owner import Owner

ROOT = Path(__file__).parents[3]
NOBODY = Owner()
PROMPTS = ["a blue car and a red cat", "a red cat and a blue car"]


ARGUMENTS = {
    "brief": "a red cat, a blue car",
    "prompts": PROMPTS,
    "generation": {"steps": 5},
}
"""A brief with the agent's own prompts."""


@pytest.fixture(scope="module")
def owner(ddim_folder: Path, clip_folder: Path) -> Owner:
    """Whoever serves a tiny random model."""
    return Owner(model=str(ddim_folder), scorer=f"clip:{clip_folder}")


def answer_of(result: types.CallToolResult) -> str:
    assert isinstance(result.content[0], types.TextContent)
    return result.content[0].text


def call(
    folder: Path, name: str, arguments: dict[str, Any], owner: Owner = NOBODY
) -> types.CallToolResult:
    """One call of a tool by a client in this process."""

    async def talk() -> types.CallToolResult:
        async with Client(build_server(folder, owner)) as client:
            return await client.call_tool(name, arguments)

    return asyncio.run(talk())


@dataclass
class Talk:
    """What a client saw of one optimization over stdio."""

    tools: list[types.Tool] = field(default_factory=list)
    result: types.CallToolResult | None = None
    blobs: list[bytes] = field(default_factory=list)
    """The files behind the links of the result."""
    told: list[tuple[float, float | None, str | None]] = field(default_factory=list)
    strays: list[Exception] = field(default_factory=list)
    """What came over stdout and was no protocol."""


async def optimize_over_stdio(folder: Path, arguments: dict[str, Any]) -> Talk:
    """A fresh server process and a fresh client, from listing the tools to reading the files."""
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "promptprobe", "mcp", "--out", str(folder / "runs")],
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=folder,
    )
    talk = Talk()

    async def collect(progress: float, total: float | None, message: str | None) -> None:
        talk.told.append((progress, total, message))

    async def keep_strays(message: Any) -> None:
        if isinstance(message, Exception):
            talk.strays.append(message)

    async with Client(server, message_handler=keep_strays) as client:
        talk.tools = (await client.list_tools()).tools
        result = await client.call_tool("optimize_prompt", arguments, progress_callback=collect)
        links = [part for part in result.content if isinstance(part, types.ResourceLink)]
        found = [(await client.read_resource(link.uri)).contents[0] for link in links]
        talk.result = result
        talk.blobs = [base64.b64decode(c.blob) for c in found if hasattr(c, "blob")]
    return talk


def test_a_fresh_client_over_stdio_lists_the_tools_optimizes_and_reads_the_result(
    tmp_path: Path,
) -> None:
    arguments = {"brief": "a scarlet kitty next to a navy automobile", "prompts": PROMPTS[:1]}
    talk = asyncio.run(optimize_over_stdio(tmp_path, arguments))
    tools, result, blobs, told = talk.tools, talk.result, talk.blobs, talk.told
    assert result is not None
    assert talk.strays == []
    assert [tool.name for tool in tools] == ["optimize_prompt", "probe_prompts"]
    assert all(tool.input_schema["additionalProperties"] is False for tool in tools)
    assert all(tool.output_schema for tool in tools)

    steps = [done for done, _, _ in told]
    assert len(steps) > 5
    assert all(earlier < later for earlier, later in pairwise(steps))
    assert all(total is not None and done <= total for done, total, _ in told)
    assert any("looked at" in (message or "") for _, _, message in told)

    assert not result.is_error
    reply = OptimizeReply.model_validate(result.structured_content)
    assert json.loads(answer_of(result)) == result.structured_content
    assert reply.initial.prompt == arguments["brief"]
    assert len(reply.trials) <= MAX_TRIALS
    assert reply.contact_sheet.is_file()
    (small,) = [part for part in result.content if isinstance(part, types.ImageContent)]
    with Image.open(io.BytesIO(base64.b64decode(small.data))) as opened:
        assert max(opened.size) <= THUMBNAIL
    assert len(result.model_dump_json()) < 60_000

    assert len(blobs) == 4
    assert reply.best.image is not None
    assert blobs[0] == reply.best.image.read_bytes()


def test_probing_compares_prompts_and_seeds_without_rendering(owner: Owner, tmp_path: Path) -> None:
    result = call(tmp_path, "probe_prompts", {**ARGUMENTS, "seeds": [3, 4]}, owner)
    reply = ProbeReply.model_validate(result.structured_content)
    found = {(row.prompt, row.seed) for row in reply.candidates}
    assert found == {(prompt, seed) for prompt in PROMPTS for seed in (3, 4)}
    scores = [row.predicted for row in reply.candidates if row.predicted is not None]
    assert scores == sorted(scores, reverse=True)
    assert reply.steps < reply.of == 5
    assert reply.spent.nfe == sum(row.nfe for row in reply.candidates) > 0
    assert reply.basis == "preview"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("tool", "fields", "said"),
    [
        ("paint", {}, "unknown tool 'paint'; expected one of optimize_prompt, probe_prompts"),
        ("optimize_prompt", {}, "brief: Field required"),
        ("optimize_prompt", {"brief": " "}, "brief: String should have at least 1 character"),
        ("optimize_prompt", {"brief": "a", "out": "/etc"}, "out: unknown field"),
        ("optimize_prompt", {"brief": "a", "budget": "huge"}, "budget: expected light"),
        ("optimize_prompt", {"brief": "a", "model": "sprites"}, "model: unknown field"),
        ("optimize_prompt", {"brief": "a", "generation": {"steps": 999}}, "at most 100 here"),
        ("probe_prompts", {"brief": "a", "prompts": []}, "prompts: List should have at least 1"),
    ],
)
def test_a_bad_call_is_answered_with_a_clear_error(
    tmp_path: Path, tool: str, fields: dict[str, Any], said: str
) -> None:
    result = call(tmp_path, tool, fields)
    assert result.is_error
    assert said in answer_of(result)
    assert list(tmp_path.glob("*/*")) == []


def test_only_linked_files_can_be_read(owner: Owner, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")

    async def talk() -> None:
        async with Client(build_server(tmp_path, owner)) as client:
            assert (await client.list_resources()).resources == []
            with pytest.raises(MCPError, match="expected the link of a result"):
                await client.read_resource(secret.as_uri())

    asyncio.run(talk())


def test_a_cancelled_call_stops_its_run_and_the_next_call_works(
    owner: Owner, tmp_path: Path
) -> None:
    async def talk() -> types.CallToolResult:
        started = asyncio.Event()

        async def note(progress: float, total: float | None, message: str | None) -> None:
            if message and message.startswith("looked at"):
                started.set()

        async with Client(build_server(tmp_path, owner)) as client:
            first = asyncio.create_task(
                client.call_tool(
                    "optimize_prompt", {**ARGUMENTS, "budget": "heavy"}, progress_callback=note
                )
            )
            await started.wait()
            first.cancel()
            await asyncio.wait([first])
            assert first.cancelled()
            return await client.call_tool("probe_prompts", {**ARGUMENTS, "seeds": [1]})

    assert not asyncio.run(talk()).is_error
    (run,) = tmp_path.iterdir()
    ledger = (run / "trials.jsonl").read_text()
    assert '"probed"' in ledger
    assert '"finished"' not in ledger
