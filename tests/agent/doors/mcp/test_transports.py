"""The MCP server as its own process, over stdio and HTTP: fresh clients, attacks, and its end."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from mcp import Client, StdioServerParameters, types
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from promptprobe.agent.doors.mcp.http import TOKEN, check_address
from tests.agent.doors.mcp.test_server import ASKED, TOOLS

ROOT = Path(__file__).parents[4]
CUT = 2.0
"""Seconds that a client waits for an answer; the model is not even open by then."""
SECRET = "a-token-of-this-test"
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


@pytest.fixture(scope="module")
def command(ddim_folder: Path, clip_folder: Path) -> list[str]:
    """The server of a tiny random model; `--out` is to be added."""
    model = ["--model", str(ddim_folder), "--scorer", f"clip:{clip_folder}", "--guidance", "2"]
    return [sys.executable, "-m", "promptprobe", "mcp", *model]


async def tools_and_result(client: Client, by_id: bool) -> tuple[list[str], Any]:
    """The tools, and the result of a call that the client's own time limit cut off.

    It goes on by the job's id, which the list of runs tells, or by the same arguments.
    """
    tools = [tool.name for tool in (await client.list_tools()).tools]
    asked = {**ASKED, "wait_seconds": 600}
    with pytest.raises(MCPError) as cut:
        await client.call_tool("optimize_prompt", asked, read_timeout_seconds=CUT)
    assert cut.value.error.code == types.REQUEST_TIMEOUT
    if by_id:
        listed = (await client.call_tool("list_runs", {})).structured_content
        assert listed is not None
        [row] = listed["runs"]
        told = {"job_id": row["job_id"], "wait_seconds": 600}
        result = await client.call_tool("get_optimization", told)
    else:
        result = await client.call_tool("optimize_prompt", asked)
    return tools, result.structured_content


def test_a_fresh_client_over_stdio_lists_the_tools_and_goes_on_with_a_call_that_it_cut_off(
    command: list[str], tmp_path: Path
) -> None:
    strays: list[Exception] = []

    async def keep_strays(message: Any) -> None:
        if isinstance(message, Exception):
            strays.append(message)

    async def talk() -> tuple[list[str], Any]:
        program, *arguments = [*command, "--out", str(tmp_path)]
        server = StdioServerParameters(command=program, args=arguments, env=ENVIRONMENT, cwd="/")
        async with Client(server, message_handler=keep_strays) as client:
            return await tools_and_result(client, by_id=False)

    tools, result = asyncio.run(talk())
    assert tools == TOOLS
    assert result["status"] == "done"
    [run] = tmp_path.glob("*/run.json")
    assert json.loads(run.read_text())["generation"]["guidance"] == 2
    assert strays == []


def test_what_is_no_json_is_refused_and_ctrl_c_ends_the_server(
    command: list[str], tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **ENVIRONMENT},
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("{broken\n" + json.dumps(INITIALIZE) + "\n")
        process.stdin.flush()
        answers = [json.loads(process.stdout.readline())]
        while answers[-1].get("id") != 1:
            answers.append(json.loads(process.stdout.readline()))
        assert answers[-1]["result"]["serverInfo"]["name"] == "promptprobe"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 130


@pytest.fixture
def address(command: list[str], tmp_path: Path) -> Iterator[str]:
    """Where a server over HTTP with a token listens."""
    process = subprocess.Popen(
        [*command, "--http", "--port", "0", "--out", str(tmp_path)],
        stderr=subprocess.PIPE,
        env={**os.environ, **ENVIRONMENT, TOKEN: SECRET},
        text=True,
    )
    with process:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert SECRET not in said
        yield said.split()[1]
        process.send_signal(signal.SIGINT)
        process.wait(timeout=5)


def post(address: str, body: bytes, **headers: str) -> int:
    """The status of a request with the token, but for what `headers` say."""
    url = urlsplit(address)
    connection = http.client.HTTPConnection(url.netloc, timeout=20)
    usual = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "Authorization": f"Bearer {SECRET}",
    }
    try:
        connection.request("POST", url.path, body, {**usual, **headers})
        return connection.getresponse().status
    finally:
        connection.close()


def test_over_http_strangers_are_refused_and_the_owner_is_served(address: str) -> None:
    body = json.dumps(INITIALIZE).encode()
    assert post(address, body, Authorization="Bearer wrong") == 401
    assert post(address, body, Host="evil.example") == 421
    assert post(address, body, Origin="http://evil.example") == 403
    assert post(address, b"{broken") == 400
    assert post(address, b'"' + b"x" * 10_000_000 + b'"') == 413
    assert post(address, body) == 200

    async def talk() -> tuple[list[str], Any]:
        headers = {"Authorization": f"Bearer {SECRET}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=600) as web,
            Client(streamable_http_client(address, http_client=web)) as client,
        ):
            return await tools_and_result(client, by_id=True)

    tools, result = asyncio.run(talk())
    assert tools == TOOLS
    assert result["status"] == "done"


def test_an_address_open_to_others_needs_a_token() -> None:
    check_address("127.0.0.1", None)
    check_address("::1", None)
    check_address("0.0.0.0", SECRET)
    with pytest.raises(ValueError, match=f"needs a token: set {TOKEN}"):
        check_address("0.0.0.0", None)
    with pytest.raises(ValueError, match="at least 16 characters"):
        check_address("127.0.0.1", "short")
