"""Reads files of prompts in common formats, for every command that takes such a file.

Text files have one prompt a line, and `#` begins a comment. Tables (CSV, TSV) have a header; JSON
is a list or one value a line. Other fields are kept by name, for the command to use or to report as
unused. A file in an unknown format is refused as a whole; a bad row only carries its problem.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_FILE = 64 * 2**20
MAX_ROWS = 1_000_000
MAX_ROW = 64 * 2**10
"""Maximum characters of a row, over all of its fields."""
PROMPT_NAMES = ("brief", "prompt", "prompts", "caption", "text")
"""Names of the prompt's field, ignoring case; the first one that a row has is used."""
TABLES = (".csv", ".tsv", ".tab")


@dataclass(frozen=True)
class Row:
    """One prompt of a file."""

    where: str
    """The position, such as "line 3" or "entry 3"."""
    number: int
    prompt: str
    fields: dict[str, Any] = field(default_factory=dict)
    """The row's other fields that are not empty."""
    problem: str = ""
    """Why this row cannot be used; empty if it can."""


def read_prompt_file(path: Path) -> list[Row]:
    """The rows of a file of text, CSV, TSV, JSON or JSON lines, in UTF-8 or UTF-16.

    Raises:
        ValueError: the file as a whole is unusable, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_FILE:
        raise ValueError(f"{path} is larger than {MAX_FILE // 2**20} MiB; split it")
    rows: list[Row] = []
    for row in _rows(path, _text(path, data)):
        rows.append(_checked(row))
        if len(rows) > MAX_ROWS:
            raise ValueError(f"{path} has more than {MAX_ROWS:,} prompts; split it")
    if not rows:
        raise ValueError(f"expected at least one prompt, got none in {path}")
    return rows


def unused_fields(rows: list[Row], used: tuple[str, ...]) -> str:
    """A notice of fields that a command does not use; empty if it uses all."""
    names = dict.fromkeys(name for row in rows for name in row.fields if name not in used)
    listed = ", ".join(f"{name[:40]!r}" for name in list(names)[:20])
    return f"fields of the file that are not used: {listed}" if names else ""


def _text(path: Path, data: bytes) -> str:
    """The file as text with `\\n` as line ends."""
    encoding = "utf-8-sig"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif b"\x00" in data[:2] and 3 * data[:300].count(b"\x00") > len(data[:300]):
        encoding = "utf-16-be" if data[:1] == b"\x00" else "utf-16-le"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"expected text in UTF-8 or UTF-16, got other bytes at {error.start} of {path}: "
            "save it as UTF-8"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _rows(path: Path, text: str) -> Iterator[Row]:
    """Rows in the format given by the file's suffix or, if that is unknown, by its first line."""
    suffix = path.suffix.lower()
    first = next((line for line in text.split("\n") if line.strip()), "")
    if suffix in TABLES:
        return _table(path, text, suffix)
    if suffix in (".jsonl", ".ndjson"):
        return _json_lines(text)
    if suffix == ".json" or isinstance(_json(text) if first.startswith("[") else None, list):
        return _json_file(path, text)
    if first.startswith("{") and isinstance(_json(first), dict):
        return _json_lines(text)
    if "\t" in first and _prompt_name(_cells(first)) is not None:
        return _table(path, text, ".tsv")
    return (
        Row(f"line {number}", number, line.strip())
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip() and not line.lstrip().startswith("#")
    )


# -- tables ------------------------------------------------------------------------------------


def _table(path: Path, text: str, suffix: str) -> Iterator[Row]:
    as_csv = [_delimited(text, delimiter) for delimiter in ",;\t"]
    readings = as_csv if suffix == ".csv" else [_tab_separated(text)]
    header: list[str] = []
    for rows in readings:
        try:
            _, cells = next(rows, (0, []))
        except csv.Error as error:
            raise ValueError(f"{path} is no table: {error}") from error
        header = header or [cell.strip() for cell in cells]
        if (prompt := _prompt_name(cells)) is not None:
            return _table_rows(path, rows, [cell.strip() for cell in cells], prompt)
    found = ", ".join(f"{cell[:40]!r}" for cell in header[:20] if cell)
    raise ValueError(
        f"expected a first line that names the columns, one of them "
        f"{', '.join(PROMPT_NAMES)}, got {found or 'nothing'} in {path}"
    )


def _table_rows(
    path: Path, rows: Iterator[tuple[int, list[str]]], header: list[str], prompt: str
) -> Iterator[Row]:
    try:
        for number, cells in rows:
            if any(cell.strip() for cell in cells):
                named = dict(zip(header, (cell.strip() for cell in cells), strict=False))
                yield _row(f"line {number}", number, named, prompt)
    except csv.Error as error:
        raise ValueError(f"{path} is no table from some line on: {error}") from error


def _delimited(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Cells with the number of their last line; a quoted cell may span lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    for cells in reader:
        yield reader.line_num, cells


def _tab_separated(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        yield number, _cells(line)


def _cells(line: str) -> list[str]:
    """Cells of a line; quotes are literal, as in PartiPrompts, unless they enclose the cell."""
    quoted = re.compile(r'"(?:[^"]|"")*"')
    return [
        cell[1:-1].replace('""', '"') if quoted.fullmatch(cell) else cell
        for cell in line.split("\t")
    ]


# -- JSON --------------------------------------------------------------------------------------


def _json(text: str) -> Any:
    """The value of a JSON text, or the ValueError that it is invalid."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        return ValueError(str(error))


def _json_file(path: Path, text: str) -> Iterator[Row]:
    value = _json(text)
    if isinstance(value, ValueError):
        lines = [line for line in text.split("\n") if line.strip()]
        if lines and isinstance(_json(lines[0]), dict):
            return _json_lines(text)
        raise ValueError(f"{path} is no JSON: {value}")
    if isinstance(value, dict):
        name = _prompt_name(list(value))
        value = value[name] if name is not None and isinstance(value[name], list) else [value]
    if not isinstance(value, list):
        raise ValueError(f"expected a list of prompts in {path}, got {type(value).__name__}")
    return (_from_json(f"entry {n}", n, entry) for n, entry in enumerate(value, 1))


def _json_lines(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            too_long = len(line) > MAX_ROW
            value = ValueError("its line is too long") if too_long else _json(line)
            yield _from_json(f"line {number}", number, value, line)


def _from_json(where: str, number: int, value: Any, line: str = "") -> Row:
    if isinstance(value, str):
        return Row(where, number, value.strip())
    if isinstance(value, ValueError):
        long = len(line) > MAX_ROW
        problem = f"has over {MAX_ROW:,} characters" if long else f"is no JSON: {value}"
        return Row(where, number, line[:200], problem=f"{where} {problem}")
    prompt = _prompt_name(list(value)) if isinstance(value, dict) else None
    if prompt is None:
        shown = json.dumps(value)[:200]
        problem = f'{where}: expected a text, or {{"prompt": "..."}}, got {shown}'
        return Row(where, number, shown, problem=problem)
    return _row(where, number, value, prompt)


# -- rows --------------------------------------------------------------------------------------


def _prompt_name(names: list[str]) -> str | None:
    """The name of the field with the prompt."""
    by_name = {name.strip().casefold(): name.strip() for name in reversed(names)}
    return next((by_name[known] for known in PROMPT_NAMES if known in by_name), None)


def _row(where: str, number: int, named: dict[str, Any], prompt: str) -> Row:
    text = named.get(prompt, "")
    empty = (None, "")
    fields = {n.casefold(): v for n, v in named.items() if n != prompt and v not in empty}
    if not isinstance(text, str):
        problem = f"{where}: expected a text as {prompt!r}, got {text!r:.80}"
        return Row(where, number, f"{text!r:.200}", fields, problem)
    return Row(where, number, text.strip(), fields)


def _checked(row: Row) -> Row:
    if row.problem or row.prompt:
        return row
    return Row(row.where, row.number, "", row.fields, f"{row.where}: its prompt is empty")


# -- syntax of other programs ------------------------------------------------------------------

FOREIGN = (
    r"\([^()]{1,200}:\s*[0-9.]+\s*\)",  # (red:1.3)
    r"<(?:lora|lyco|hypernet|ti):[^<>]{1,200}>",
    r"\bBREAK\b",
    r"\{[^{}]{0,200}\|[^{}]{0,200}\}",  # {a|b}
    r"\[[^\[\]]{0,200}:\s*[0-9.]+\s*\]",  # [from:to:0.5]
)


def foreign_syntax(prompt: str) -> str:
    """A notice if a prompt uses the syntax of A1111 and similar programs; empty if not."""
    found = next((match for pattern in FOREIGN if (match := re.search(pattern, prompt))), None)
    if found is None:
        return ""
    return (
        f"{found[0][:60]!r} is syntax of other programs (weights, LoRAs, choices as in A1111): "
        "this model reads it letter by letter"
    )
