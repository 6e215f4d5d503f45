"""Stops a build whose links are missing; everything else about the package is in pyproject.toml.

`promptprobe/agent` and its three sisters are symbolic links to the folders at the top. A checkout
without symbolic links (Windows without developer mode) has small text files in their place, and
would quietly build a package with nothing in it.
"""

from pathlib import Path

from setuptools import setup

FOLDERS = ("agent", "evals", "probe", "tools")

links = {f"promptprobe/{name}": Path(__file__).parent / "promptprobe" / name for name in FOLDERS}
missing = [name for name, link in links.items() if not link.is_dir()]
if missing:
    raise SystemExit(
        f"promptprobe: {', '.join(missing)} should be a link to a folder and is not: "
        "this checkout was made without symbolic links.\n"
        "Check out on Linux, macOS or WSL (git config core.symlinks true), or install the wheel, "
        "which works anywhere: pip install promptprobe"
    )

setup()
