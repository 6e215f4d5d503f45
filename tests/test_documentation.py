"""README and docs/usage.md are true: their commands run as written, and their links lead somewhere.

Commands stand in `sh` blocks. They run on tiny models in folders that have the documented names.
"""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest

from promptprobe.__main__ import main

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
USAGE = ROOT / "docs/usage.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page that are marked with this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(
    saved_pipeline: Any, clip_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A tiny model, a tiny CLIP and small files under the names that the pages use."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "my-model").symlink_to(saved_pipeline("ddim"))
    (folder / "my-clip").symlink_to(clip_folder)
    (folder / "judge.py").write_text(
        "def score(brief, image):\n    return image.resize((1, 1)).getpixel((0, 0))[0] / 255\n"
    )
    (folder / "briefs.txt").write_text("a fox in snow\nan owl under a lamp\n")
    things = ("red cat", "red fox", "red owl", "red car", "blue hat", "green cup")
    prompts = (f"a {thing}\n" for thing in things)  # three to train on, three to validate
    (folder / "prompts.txt").write_text("".join(prompts))
    return folder


@pytest.fixture
def reader(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who follows the documentation in that folder, one page after the other."""
    monkeypatch.chdir(folder)
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("page", [README, USAGE], ids=lambda page: page.name)
def test_the_commands_of_a_page_run_as_written(page: Path, reader: None) -> None:
    commands = [line for block in blocks(page, "sh") for line in block.splitlines()]
    assert commands
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "promptprobe"
        assert main(arguments) == 0, command


def test_the_python_of_the_readme_runs_as_written(
    reader: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = blocks(README, "python")
    exec(code, {})
    printed = capsys.readouterr().out
    assert "an owl" in printed
    assert "DiffusionPipeline" in printed or "StableDiffusionPipeline" in printed


def test_the_python_page_runs_from_top_to_bottom(
    reader: None, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {}
    for code in blocks(ROOT / "docs/python.md", "python"):
        exec(code, names)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "brief    a fox in snow"
    assert printed[-1].endswith("[1, 2]")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_to_files(page: Path) -> None:
    links = LINK.findall(page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]


def test_the_readme_is_read_in_three_minutes() -> None:
    assert len(README.read_text().splitlines()) <= 130


def test_the_list_of_files_is_the_source_s_own() -> None:
    writer = runpy.run_path(str(ROOT / ".ci/files.py"))
    assert (ROOT / "docs/architecture.md").read_text() == writer["page"](), "python .ci/files.py"
