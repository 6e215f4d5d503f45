"""A run in a notebook, through a real IPython shell: what it displays, and what it never does."""

from __future__ import annotations

import atexit
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from IPython.lib.pretty import pretty
from traitlets.config import Config

HOSTILE = "</b><script>alert('a fox')</script> in snow"


class KernelShell(InteractiveShell):
    """IPython's own shell with the attribute by which a kernel's shell differs from it."""

    kernel: Any = None


@pytest.fixture
def shell(
    ddim_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KernelShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)  # IPython warns where another one is active
    config = Config(HistoryManager={"enabled": False})
    shell: KernelShell = KernelShell.instance(config=config)
    shell.display_pub = CapturingDisplayPublisher(parent=shell)
    given = {
        "model": ddim_folder,
        "scorer": lambda brief, image: image.resize((1, 1)).getpixel((0, 0))[0] / 255,
        "generation": {"steps": 5},
        "budget": 2,
        "rewrite": "off",
        "out": tmp_path / "runs",
    }
    shell.push({"HOSTILE": HOSTILE, "given": given, "heard": []})
    yield shell
    shell.atexit_operations()
    atexit.unregister(shell.atexit_operations)
    shell.restore_sys_module_state()
    KernelShell.clear_instance()


def displayed(shell: KernelShell, cell: str) -> list[dict[str, Any]]:
    """The display messages of a cell that runs without an error."""
    shell.run_cell(cell).raise_error()
    captured = shell.display_pub
    assert isinstance(captured, CapturingDisplayPublisher)
    return captured.outputs


IN_A_THREAD = """
import asyncio
from promptprobe import optimize_prompt
await asyncio.sleep(0)  # as in a notebook, a loop runs
result = optimize_prompt(HOSTILE, on_event=heard.append, **given)
"""
STREAMED = """
from promptprobe import stream
async for event in stream(HOSTILE, **given):
    heard.append(event)
result = event.result
"""


@pytest.mark.parametrize("cell", [IN_A_THREAD, STREAMED], ids=["optimize_prompt", "stream"])
def test_a_notebook_shows_the_best_so_far_and_updates_it_in_place(
    cell: str, shell: KernelShell
) -> None:
    shell.kernel = "a kernel"
    first, *updates = displayed(shell, cell)
    assert len(shell.user_ns["heard"]) == 1 + len(updates)
    assert not first["update"]
    assert updates
    assert all(message["update"] for message in updates)
    assert len({message["transient"]["display_id"] for message in (first, *updates)}) == 1
    pages = [message["data"]["text/html"] for message in (first, *updates)]
    assert "<img" not in pages[0]
    assert any("best so far: score" in page and "data:image/" in page for page in pages)
    best = shell.user_ns["result"].best
    assert f"best: score {best.score.value:.2f}" in pages[-1]
    assert f"seed {best.candidate.seed}" in pages[-1]
    for message, page in zip((first, *updates), pages, strict=True):
        assert "<script" not in page
        assert "&lt;script&gt;alert" in page
        assert "\n" not in message["data"]["text/plain"]


def test_a_result_as_text_is_the_five_lines_of_print(shell: KernelShell) -> None:
    cell = "from promptprobe import optimize_prompt\nresult = optimize_prompt('a fox', **given)"
    displayed(shell, cell)
    result = shell.user_ns["result"]
    assert pretty(result) == str(result)


def test_a_terminal_shows_nothing_of_it(shell: KernelShell) -> None:
    cell = "from promptprobe import optimize_prompt\nresult = optimize_prompt('a fox', **given)"
    assert displayed(shell, cell) == []


def test_a_plain_python_does_not_import_ipython() -> None:
    code = (
        "import sys; from promptprobe.agent.report.notebook import shown_in_notebook; "
        "assert shown_in_notebook(print) is print; assert 'IPython' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
