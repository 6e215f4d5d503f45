"""Programs that use the public names pass pyright's strict mode, as Pylance users run it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import promptprobe

ROOT = Path(__file__).parent.parent
PROGRAM = ROOT / "tests/public_surface.py"


def test_the_program_uses_every_public_name() -> None:
    names = re.search(r"from promptprobe import \((.*?)\)", PROGRAM.read_text(), re.DOTALL)
    assert names
    assert set(re.findall(r"\w+", names[1])) == set(promptprobe.__all__)


def test_strict_pyright_has_nothing_to_say_of_it(tmp_path: Path) -> None:
    settings = {
        "include": [str(PROGRAM)],
        "extraPaths": [str(ROOT)],
        "pythonVersion": "3.11",
        "typeCheckingMode": "strict",
    }
    config = tmp_path / "pyrightconfig.json"
    config.write_text(json.dumps(settings))
    checked = subprocess.run(
        [str(Path(sys.executable).with_name("basedpyright")), "-p", str(config), "--outputjson",
         "--pythonpath", sys.executable],
        capture_output=True,
        text=True,
    )  # fmt: skip
    report = json.loads(checked.stdout)
    assert report["summary"]["filesAnalyzed"] == 1
    found = [f"{one['range']['start']['line'] + 1}: {one['message']}"
             for one in report["generalDiagnostics"]]  # fmt: skip
    assert not found, "\n".join(found)
