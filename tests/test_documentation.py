"""The README and the pages of docs/ are true: what they show runs, and what they name is there.

Commands in `sh` blocks run as written, and `python` blocks from the top of a page to its bottom,
on tiny models in a folder that has the documented names. Commands in other blocks take minutes or
what is not here; the command line has to accept them.
"""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import typer

from promptprobe.__main__ import app, main
from tests.agent.llm_server import Answer, completion, message, right_answer, running

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
CARD = ROOT / "tools/sprites/weights/README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", CARD, *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*promptprobe (.*)$", re.MULTILINE)
SAID = re.compile(r"(?:^# .*\n)+\Z", re.MULTILINE)
"""The comments at the end of a block: what it prints."""
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
OF_OTHERS = {"--check", "--fix", "--no-deps", "--train", "--validation", "--vae"}
"""Options of ruff, pip, and the modules that made Sprites."""
SOURCE = re.compile(r"`([a-z_/]+\.py)`")
FOLDERS = ("promptprobe", "agent", "evals", "probe", "tools", "tests", ".ci")


def blocks(page: Path, language: str | None = None) -> list[str]:
    """The fenced blocks of a page; with a language, those that are marked with it."""
    found = FENCED.findall(page.read_text())
    return [text for marked, text in found if language in (None, marked)]


def commands(block: str) -> list[list[str]]:
    """The arguments of each command in a block."""
    lines = COMMAND.findall(block.replace("\\\n", " "))
    return [shlex.split(line.partition(" > ")[0], comments=True) for line in lines]


def each(pages: list[Path]) -> Any:
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(ROOT)))


def with_blocks(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, language)]


@pytest.fixture(scope="module")
def folder(
    saved_pipeline: Any, clip_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Where a reader is: a tiny model, a tiny CLIP and small files under the names of the pages."""

    @cache
    def made(pipeline: str) -> Path:
        folder = tmp_path_factory.mktemp("reader")
        (folder / "my-model").symlink_to(saved_pipeline(pipeline))
        (folder / "my-clip").symlink_to(clip_folder)
        (folder / "judge.py").write_text(blocks(ROOT / "docs/judges.md", "python")[0])
        (folder / "briefs.txt").write_text("a fox in snow\nan owl under a lamp\n")
        # one to train on, one to stop the training by, one to compare the probe with previews on
        (folder / "prompts.txt").write_text("a red cat\na green cup\na red car\n")
        return folder

    return made


@pytest.fixture
def reader(folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Somebody who follows the pages with a pipeline of this name, one after the other."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return lambda pipeline: monkeypatch.chdir(folder(pipeline))


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An endpoint that rewrites as it should, and calls the first tool that it is offered once."""

    def answer(question: dict[str, Any]) -> Answer:
        last = question["messages"][-1]
        if last["role"] == "tool":
            return completion(f"done with seed {json.loads(last['content'])['best']['seed']}")
        if not (tools := question.get("tools")):
            return completion(right_answer(question))
        given = json.dumps({"brief": "a fox in snow", "generation": {"steps": 3}})
        call = {"name": tools[0]["function"]["name"], "arguments": given}
        return message(content=None, tool_calls=[{"id": "1", "type": "function", "function": call}])

    with running() as server:
        server.script = answer
        monkeypatch.setenv("OPENAI_BASE_URL", server.address)
        monkeypatch.setenv("OPENAI_API_KEY", "secret-of-a-test")
        yield


@each(with_blocks("sh"))
def test_the_commands_of_a_page_run_as_written(
    page: Path, reader: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    reader("pixart")  # the quickest of the tiny ones
    _have_runs("ONE", "OTHER")
    for block in blocks(page, "sh"):
        asked = commands(block)
        assert len(asked) == len(block.splitlines())
        for arguments in asked:
            assert main(arguments) == 0, (arguments, capsys.readouterr().err)


def _have_runs(*names: str) -> None:
    """Finished runs under these names, of few steps."""
    few = ["--steps", "2", "--budget", "1", "--rewrite", "off", "--out", "made"]
    if not Path("runs").exists():
        asked = ["optimize", "a fox in snow", "--model", "my-model", "--scorer", "clip:my-clip"]
        assert main([*asked, *few]) == 0
        (run,) = Path("made").iterdir()
        for name in names:
            shutil.copytree(run, Path("runs") / name)


@each(PAGES)
def test_the_command_line_accepts_the_commands_of_a_page(page: Path) -> None:
    for arguments in chain.from_iterable(map(commands, blocks(page))):
        command = _command_line()
        context = command.make_context("promptprobe", list(arguments))
        while hasattr(command, "commands"):
            rest = [*context._protected_args, *context.args]
            name, command, rest = command.resolve_command(context, rest)
            context = command.make_context(name, rest, parent=context)


@cache
def _command_line() -> Any:
    return typer.main.get_command(app)


@each(with_blocks("python"))
def test_the_python_of_a_page_runs_and_prints_what_it_says(
    page: Path,
    reader: Callable[[str], None],
    llm: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reader("ddim")  # takes all the arguments that the pages give
    names: dict[str, Any] = {}
    for code in blocks(page, "python"):
        capsys.readouterr()
        exec(compile(code, page.name, "exec", dont_inherit=True), names)
        if said := SAID.search(code):
            assert capsys.readouterr().out.endswith(said[0].replace("# ", ""))


@each(PAGES)
def test_options_that_a_page_names_are_there(page: Path) -> None:
    assert not set(OPTION.findall(page.read_text())) - _options() - OF_OTHERS


@cache
def _options() -> set[str]:
    def under(command: Any) -> set[str]:
        own = {"--help", *(name for one in command.params for name in one.opts)}
        return own.union(*map(under, getattr(command, "commands", {}).values()))

    return under(_command_line())


@each(PAGES)
def test_source_files_that_a_page_names_are_there(page: Path) -> None:
    assert not {f"/{name}" for name in SOURCE.findall(page.read_text())} - _ends_of_paths()


@cache
def _ends_of_paths() -> set[str]:
    """Every source file by its whole path and by the ends of that; and the reader's own."""
    found = [path.relative_to(ROOT) for top in FOLDERS for path in (ROOT / top).rglob("*.py")]
    ends = {f"/{Path(*path.parts[at:])}" for path in found for at in range(len(path.parts))}
    return ends | {"/judge.py"}


@each(PAGES)
def test_links_between_pages_lead_to_files(page: Path) -> None:
    links = LINK.findall(page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]


def test_the_readme_is_read_in_three_minutes() -> None:
    assert len(README.read_text().splitlines()) <= 130


def test_the_list_of_files_is_the_source_s_own() -> None:
    writer = runpy.run_path(str(ROOT / ".ci/files.py"))
    assert (ROOT / "docs/architecture.md").read_text() == writer["page"](), "python .ci/files.py"
