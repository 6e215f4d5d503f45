"""What the whole repository promises: quick imports, a small honest API, exact constraints."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import promptprobe

ROOT = Path(__file__).parent.parent
FOLDERS = ("agent", "evals", "probe", "tools")
HEAVY = {
    "torch", "diffusers", "transformers", "numpy", "scipy", "PIL",
    "openai", "langgraph", "langchain_core", "mcp",
}  # fmt: skip
# Asked for where they are used: one drew the silhouettes of Sprites once, one is a rival.
BY_HAND = {"resvg-py", "attention-map-diffusers"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python process of its own that sees this checkout."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, env=environment
    )


def sources() -> Iterator[Path]:
    for folder in (*FOLDERS, "tests"):
        yield from sorted((ROOT / folder).rglob("*.py"))
    yield from sorted((ROOT / "promptprobe").glob("*.py"))


# Public API


@pytest.mark.parametrize(
    "code",
    [
        "import promptprobe",
        "from promptprobe import Budget, Candidate, Generation, Trial",
        "from promptprobe.__main__ import main; main(['--help'])",
        "from promptprobe.__main__ import main; main(['optimize', '--help'])",
        "from promptprobe.__main__ import main; main(['probe', '--help'])",
        "from promptprobe.__main__ import main; main(['probes', '--help'])",
        "from promptprobe.__main__ import main; main(['eval', '--help'])",
    ],
    ids=["import", "records", "help", "optimize help", "probe help", "probes help", "eval help"],
)
def test_starting_up_loads_no_heavy_library_and_takes_under_a_second(code: str) -> None:
    seconds, modules = start_up(code)
    assert not HEAVY & modules
    libraries, _ = start_up("import pydantic, typer.rich_utils, rich.markdown; pydantic.BaseModel")
    assert seconds < max(1, 3 * libraries)  # where these alone take a third of it, it may be more


def start_up(code: str) -> tuple[float, set[str]]:
    """Seconds of the processor that a Python process takes for this, and packages that it loads."""
    report = (
        "import atexit, sys, time; began = time.process_time(); atexit.register(lambda: print("
        "'\\nloaded', time.process_time() - began, *sys.modules, file=sys.stderr));" + code
    )
    best = float("inf")
    for _ in range(3):  # the first may compile
        finished = run("-c", report)
        assert finished.returncode == 0, finished.stderr
        _, seconds, *modules = finished.stderr.splitlines()[-1].split()
        best = min(best, float(seconds))
    return best, {name.partition(".")[0] for name in modules}


def test_every_public_name_loads_and_is_listed() -> None:
    for name in promptprobe.__all__:
        assert getattr(promptprobe, name) is not None
        assert name in dir(promptprobe)


def test_an_unknown_public_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="optimise"):
        _ = promptprobe.optimise


# Layout


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an sdist holds folders in their place")
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_package_links_to_the_folders_at_the_top(folder: str) -> None:
    assert (ROOT / "promptprobe" / folder).readlink() == Path("..") / folder


def test_a_reader_that_has_seen_enough_leaves_no_traceback() -> None:
    command = [sys.executable, "-m", "promptprobe", "tools", "--format", "openai"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait() == 0


def test_no_file_is_over_350_lines_and_no_function_over_40() -> None:
    long = []
    for path in sources():
        text = path.read_text()
        if len(text.splitlines()) > 350:
            long.append(f"{path.relative_to(ROOT)}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                documented = ast.get_docstring(node, clean=False) is not None
                first = node.body[0].end_lineno if documented else node.lineno - 1
                if (lines := (node.end_lineno or 0) - (first or 0)) > 40:
                    long.append(f"{path.relative_to(ROOT)}: {node.name}, {lines} lines")
    assert not long


def test_no_folder_shows_more_than_12_files() -> None:
    shelves = Counter(path.parent for path in sources() if not path.is_relative_to(ROOT / "tests"))
    assert not {
        str(folder.relative_to(ROOT)): files for folder, files in shelves.items() if files > 12
    }


def test_every_source_file_says_why_it_exists() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sources()
        if path.read_text().strip() and not path.is_relative_to(ROOT / "tests")
        if ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert not silent


# Dependencies


def constraints() -> dict[str, str]:
    """Canonical package name -> the right side of its line."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==", 1) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def needed(wanted: list[Requirement]) -> set[str]:
    """Canonical names of all that `wanted` leads to here, by the metadata of what is installed."""
    seen: set[str] = set()
    found: set[str] = set()
    queue = list(wanted)
    while queue:
        requirement = queue.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        if requirement.name == "promptprobe":
            lines = [PROJECT["optional-dependencies"][extra] for extra in requirement.extras]
            queue += [Requirement(line) for extra in lines for line in extra]
            continue
        found.add(canonicalize_name(requirement.name))
        for line in requires(requirement.name) or []:
            further = Requirement(line)
            extras = requirement.extras or {""}
            if not further.marker or any(further.marker.evaluate({"extra": e}) for e in extras):
                queue.append(further)
    return found


def declared() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(r) for group in (PROJECT["dependencies"], *extras) for r in group]


def test_constraints_are_exact_and_have_no_build_suffix() -> None:
    exact = re.compile(r"\d+(\.\d+)*(\.post\d+)?")
    assert not [f"{n}=={v}" for n, v in constraints().items() if not exact.fullmatch(v)]


def test_constraints_cover_what_every_extra_leads_to() -> None:
    build = (
        "cuda-",
        "nvidia-",
        "triton",
    )  # a CUDA build of torch brings these, and pins them itself
    assert not {
        name for name in needed(declared()) - set(constraints()) if not name.startswith(build)
    }


def test_constraints_lie_within_the_declared_ranges() -> None:
    exact = constraints()
    ours = [r for r in declared() if r.name != "promptprobe"]
    assert not [str(r) for r in ours if exact[canonicalize_name(r.name)] not in r.specifier]


def test_every_library_that_the_package_imports_is_declared() -> None:
    aliases = {"pil": "pillow", "pydantic-core": "pydantic"}
    mine = {"promptprobe", "tests", *sys.stdlib_module_names}
    known = BY_HAND | {canonicalize_name(r.name) for r in declared()}
    missing = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            for name in {name.partition(".")[0] for name in names} - mine:
                package = canonicalize_name(name)
                if aliases.get(package, package) not in known:
                    missing.add(f"{path.relative_to(ROOT)}: {name}")
    assert not missing


# The commands of a fresh machine


def test_the_machine_check_passes_here_and_says_what_will_be_downloaded() -> None:
    finished = run(".ci/machine.py", "demo")
    assert finished.returncode == 0
    assert re.search(r"Download, the first time: about [\d.]+ GB", finished.stdout)
    assert "TORCH=cpu" in finished.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("PYTHON=/no/such/python", "needs Python 3.11 or newer, and there is no '/no/such/python'"),
        ("TORCH=tpu", "TORCH=tpu is not known"),
    ],
)
def test_make_says_what_is_missing(variable: str, said: str, tmp_path: Path) -> None:
    for name in ("Makefile", "constraints.txt", "pyproject.toml", "setup.py", ".ci/machine.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    finished = subprocess.run(
        ["make", "demo", variable], capture_output=True, text=True, cwd=tmp_path
    )
    assert finished.returncode != 0
    assert said in finished.stderr
    assert not (tmp_path / ".venv").exists()
