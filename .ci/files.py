"""Writes the list of files into docs/architecture.md, each with the first sentence about it.

python .ci/files.py
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
BEGIN = "<!-- files: written by .ci/files.py -->\n"
FOLDERS = ("promptprobe", "agent", "tools", "probe", "evals")


def files() -> str:
    """A table a folder, in the order in which imports run."""
    parts = []
    for top in FOLDERS:
        folders = {path.parent for path in (ROOT / top).rglob("*.py")}
        if top == "promptprobe":  # the four others are links in it
            folders = {ROOT / top}
        for folder in sorted(folders):
            lines = [f"### {folder.relative_to(ROOT)}/\n\n"]
            lines += [f"{said}\n\n" for said in [first_sentence(folder / "__init__.py")] if said]
            lines += ["| file | what it is for |\n|---|---|\n"]
            for path in sorted(folder.glob("*.py")):
                if path.name != "__init__.py" or top == "promptprobe":
                    lines.append(f"| `{path.name}` | {first_sentence(path)} |\n")
            parts.append("".join(lines) + "\n")
    return "".join(parts)


def first_sentence(path: Path) -> str:
    """Of a module's docstring, its first paragraph up to the first full stop."""
    said = ast.get_docstring(ast.parse(path.read_text())) or "" if path.exists() else ""
    paragraph = " ".join(said.split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".").replace("|", "\\|")


def page() -> str:
    """The whole page, with the list as the source has it now."""
    return PAGE.read_text().split(BEGIN)[0] + BEGIN + "\n" + files().rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
