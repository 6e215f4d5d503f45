"""What users install: the sdist builds the wheel, the wheel has all of it, and runs on its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("agent", "evals", "probe", "tools")
CONSTRAINTS = ROOT / "constraints.txt"
BRIEF = "a scarlet kitty next to a navy automobile"

pytestmark = pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(),
    reason="which files belong to the package is known from git",
)


def call(command: Sequence[str | Path], folder: Path, **environment: str) -> str:
    """Standard output of a command that must succeed, untouched by this process's environment."""
    ours = {"PYTHONPATH", "VIRTUAL_ENV", "OPENAI_BASE_URL", "OPENAI_API_KEY"}
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    finished = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env={**inherited, **environment}
    )
    assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout


@pytest.fixture(scope="module")
def files() -> list[Path]:
    """What a commit of this working tree would hold."""
    listed = call(["git", "ls-files", "-coz", "--exclude-standard"], ROOT).split("\0")
    return [Path(name) for name in listed if name and (ROOT / name).exists()]


@pytest.fixture(scope="module")
def checkout(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to build in, links kept as links."""
    folder = tmp_path_factory.mktemp("checkout")
    for path in files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, folder / path, follow_symlinks=False)
    return folder


@pytest.fixture(scope="module")
def dist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with an sdist and with the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    call([sys.executable, "-m", "build", "--outdir", folder, checkout], folder)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path) -> Path:
    """A virtual environment that was empty before the wheel and what it asks for went in.

    It is kept in .build and made anew when the dependencies change; until then only the wheel is
    exchanged, so that a second `make test` is quick. A clean clone always starts from nothing.
    """
    folder = ROOT / ".build/environment"
    python, stamp = folder / "bin/python", folder / "dependencies"
    install: list[str | Path] = [
        python, "-m", "pip", "--disable-pip-version-check", "install", "-c", CONSTRAINTS,
        "--no-compile",  # what is imported is compiled then: a tenth of all that comes along
    ]  # fmt: skip
    key = hashlib.sha256(CONSTRAINTS.read_bytes() + (ROOT / "pyproject.toml").read_bytes())
    if stamp.exists() and stamp.read_text() == key.hexdigest():
        call([*install, "--no-deps", "--force-reinstall", wheel], folder)
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    call([sys.executable, "-m", "venv", folder], folder)
    if index := os.environ.get("TORCH_INDEX"):
        call([*install, "--no-deps", "--index-url", index, "torch"], folder)
    call([*install, wheel], folder)
    stamp.write_text(key.hexdigest())
    return folder


def test_every_file_of_the_four_folders_is_in_the_wheel(wheel: Path, files: list[Path]) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    ours = [f"promptprobe/{path.as_posix()}" for path in files if path.parts[0] in FOLDERS]
    ours += ["promptprobe/__init__.py", "promptprobe/__main__.py", "promptprobe/py.typed"]
    assert len(ours) > 20
    assert not set(ours) - packed


def test_the_wheel_gives_users_one_name_and_no_stray_file(wheel: Path, files: list[Path]) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    homes = {path.as_posix() for path in files if path.parts[0] == "promptprobe"}
    homes |= {f"promptprobe/{path.as_posix()}" for path in files if path.parts[0] in FOLDERS}
    assert not packed - homes


def test_the_wheel_carries_licence_notice_and_command(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    information = {name.partition(".dist-info/")[2]: name for name in archive.namelist()}
    for name in ("LICENSE", "NOTICE"):
        assert archive.read(information[f"licenses/{name}"]) == (ROOT / name).read_bytes()
    command = b"promptprobe = promptprobe.__main__:main"
    assert command in archive.read(information["entry_points.txt"])


def test_the_sdist_has_every_file_once(dist: Path, files: list[Path]) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        members = {Path(*Path(m.name).parts[1:]) for m in archive.getmembers() if m.isfile()}
    linked = {Path("promptprobe", folder) for folder in FOLDERS}
    for file in set(files) - linked - {Path(".gitignore")}:
        home = Path("promptprobe") / file if file.parts[0] in FOLDERS else file
        assert home in members
    assert not [member for member in members if member.parts[0] in FOLDERS]


def test_a_checkout_without_links_is_refused_with_what_to_do(
    checkout: Path, tmp_path: Path
) -> None:
    shutil.copy(checkout / "setup.py", tmp_path)
    for folder in FOLDERS:
        (tmp_path / "promptprobe" / folder).mkdir(parents=True)
    (tmp_path / "promptprobe/agent").rmdir()
    (tmp_path / "promptprobe/agent").write_text("../agent")  # what git leaves without links
    finished = subprocess.run(
        [sys.executable, "setup.py", "--version"], capture_output=True, text=True, cwd=tmp_path
    )
    assert finished.returncode != 0
    assert "promptprobe/agent should be a link to a folder" in finished.stderr
    assert "pip install promptprobe" in finished.stderr


@pytest.mark.slow
def test_the_installed_package_comes_from_the_wheel_alone(
    environment: Path, tmp_path: Path
) -> None:
    code = "import promptprobe.tools.records as records; print(records.__file__)"
    found = Path(call([environment / "bin/python", "-c", code], tmp_path).strip())
    assert found.is_relative_to(environment)
    call([environment / "bin/python", "-m", "pip", "check"], tmp_path)


@pytest.mark.slow
def test_the_wheel_does_the_main_job_in_an_empty_environment(
    environment: Path, tmp_path: Path
) -> None:
    command: list[str | Path] = [environment / "bin/promptprobe", "optimize", BRIEF, "--json"]
    result = json.loads(call(command, tmp_path, HF_HUB_OFFLINE="1"))
    assert result["brief"] == BRIEF
    assert result["stop_reason"]
    assert result["spent"]["nfe"] > 0
    assert result["best"]["score"] >= result["initial"]["score"]
    for trial in (result["best"], result["initial"]):
        image = tmp_path / trial["image"]
        assert image.read_bytes().startswith(b"\x89PNG")
        assert image.resolve().is_relative_to(tmp_path.resolve())
