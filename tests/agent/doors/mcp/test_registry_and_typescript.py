"""What other ecosystems see of the server: registries its entry, the TypeScript SDK its tools."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from promptprobe import __version__
from promptprobe.__main__ import app
from tests.agent.doors.mcp.test_server import TOOLS

ROOT = Path(__file__).parents[4]
SDK = "@modelcontextprotocol/sdk@1.32.2"
CACHE = ROOT / ".build/typescript-client"
"""Kept between test runs, so that the registry is asked once."""


def test_the_entry_for_registries_names_this_package_and_a_command_that_exists() -> None:
    entry = json.loads((ROOT / "server.json").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [package] = entry["packages"]
    assert entry["$schema"].endswith("/schemas/2025-12-11/server.schema.json")
    assert re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", entry["name"])
    assert 1 <= len(entry["description"]) <= 100
    assert entry["version"] == package["version"] == __version__
    assert (package["registryType"], package["identifier"]) == ("pypi", project["name"])
    [source] = package["runtimeArguments"]
    assert source["value"] == f"{project['name']}[mcp]=={__version__}"
    assert "mcp" in project["optional-dependencies"]
    command, *options = package["packageArguments"]
    served: Any = get_command(app)
    known = {name for one in served.commands[command["value"]].params for name in one.opts}
    assert {option["name"] for option in options} <= known


def test_the_package_s_description_names_the_entry_by_which_registries_know_its_owner() -> None:
    entry = json.loads((ROOT / "server.json").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"<!-- mcp-name: {entry['name']} -->" in (ROOT / project["readme"]).read_text()


@pytest.fixture(scope="module")
def typescript_client() -> Path:
    """A program of the TypeScript SDK in a folder where the SDK is installed."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("no node and npm on this machine")
    if not (CACHE / "node_modules/@modelcontextprotocol/sdk").is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0")
        asked = ["npm", "install", "--prefer-offline", *quiet, "--prefix", str(CACHE), SDK]
        try:
            subprocess.run(asked, check=True, capture_output=True, timeout=60)
        except (subprocess.SubprocessError, OSError) as error:
            shutil.rmtree(CACHE)
            pytest.skip(f"the TypeScript SDK cannot be installed here: {error}")
    return Path(shutil.copy(Path(__file__).with_name("client.mjs"), CACHE))


def test_a_typescript_client_lists_the_tools_without_a_warning_and_calls(
    typescript_client: Path, tmp_path: Path
) -> None:
    server = [sys.executable, "-m", "promptprobe", "mcp", "--out", str(tmp_path)]
    talked = subprocess.run(
        ["node", str(typescript_client), *server],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert talked.returncode == 0, talked.stderr
    assert talked.stderr == ""
    seen = json.loads(talked.stdout)
    assert seen["tools"] == TOOLS
    assert (seen["outputs"], seen["runs"]) == (len(TOOLS), {"runs": []})
    assert "there is no job 'none'" in seen["refused"]
