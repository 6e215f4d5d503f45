"""Files that a kill leaves whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptprobe.probe.files import JsonLines, replacing


def fail_halfway(path: Path) -> None:
    path.write_text("half of the n")
    raise OSError("no space left")


def test_a_file_is_replaced_whole_and_a_failure_leaves_the_old_one_and_nothing_else(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file.txt"
    with replacing(path) as partial:
        partial.write_text("old")
    with pytest.raises(OSError, match="no space"), replacing(path) as partial:
        fail_halfway(partial)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_torn_last_line_is_dropped_at_the_next_append_and_reading_changes_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "lines.jsonl"
    assert JsonLines(path).found == []
    JsonLines(path).append(["1", "2"])
    path.write_bytes(path.read_bytes() + b'{"half of a li')
    torn = JsonLines(path)
    assert torn.found == [b"1", b"2"]
    assert path.read_bytes().endswith(b"of a li")
    torn.append(["3"])
    assert path.read_bytes() == b"1\n2\n3\n"
