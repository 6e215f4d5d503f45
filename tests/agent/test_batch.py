"""Many briefs: files of all sorts, rows that survive a kill, and briefs that fail alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from promptprobe.__main__ import main
from promptprobe.agent.batch import MAX_FILE, RESULTS, Item, Results, keep_settings, read_briefs
from promptprobe.agent.doors.schemas import OptimizeRequest

ROOT = Path(__file__).parents[2]


def written(folder: Path, text: str | bytes, name: str = "briefs.txt") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# Reading


def test_a_text_file_has_one_brief_a_line_and_empty_lines_are_skipped(tmp_path: Path) -> None:
    items = read_briefs(written(tmp_path, "\ufeffa cat\r\n\n  two keys  \nقطة\n"))
    assert [(item.id, item.brief) for item in items] == [
        ("1", "a cat"),
        ("3", "two keys"),
        ("4", "قطة"),
    ]


def test_jsonl_takes_brief_or_prompt_and_an_id(tmp_path: Path) -> None:
    lines = [
        {"brief": "a cat", "id": "first"},
        {"prompt": "a photo of a bench", "tag": "single_object"},  # as GenEval writes it
        {"brief": " two keys ", "id": 7},
    ]
    items = read_briefs(written(tmp_path, "\n".join(map(json.dumps, lines)), "b.jsonl"))
    assert [(item.id, item.brief) for item in items] == [
        ("first", "a cat"),
        ("2", "a photo of a bench"),
        ("7", "two keys"),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"brief": "a cat"', "line 2 is no JSON"),
        ('{"colour": "red"}', "line 2: expected"),
        ('{"brief": 5}', "line 2: expected"),
        ('["a cat"]', "line 2: expected"),
        ("[" * 5000, "line 2 is no JSON"),
        (json.dumps({"brief": "x" * 5000}), "at most 4000 characters a brief, got 5,000"),
        (json.dumps({"brief": "x" * 70_000}), "line 2 has over 65,536 characters"),
    ],
)
def test_a_bad_line_is_an_item_with_its_problem_and_the_rest_is_read(
    tmp_path: Path, line: str, said: str
) -> None:
    good = '{"brief": "a cat"}'
    before, bad, after = read_briefs(written(tmp_path, f"{good}\n{line}\n{good}\n", "b.jsonl"))
    assert said in bad.problem
    assert len(bad.brief) <= 4000
    assert before.problem == after.problem == ""


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "at least one brief"),
        (b"\n \n", "at least one brief"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "expected UTF-8 text"),
        (b'{"brief": "a", "id": 1}\n{"brief": "b", "id": "1"}', "a different id on every line"),
        (b"a" * (MAX_FILE + 1), "larger than 64 MiB"),
    ],
    ids=["empty", "blank", "binary", "same id", "huge"],
)
def test_a_useless_file_is_refused_as_a_whole(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_briefs(written(tmp_path, data))


# Results


def test_a_half_written_last_row_is_dropped_and_written_again(tmp_path: Path) -> None:
    first, second = Item(id="1", brief="a cat"), Item(id="2", brief="a car")
    results = Results(tmp_path)
    results.write(first, {"score": 1})
    with results.path.open("a") as file:
        file.write('{"id": "2", "brief": "a c')
    again = Results(tmp_path)
    assert again.has(first)
    assert not again.has(second)
    again.write(second, {"score": 0})
    rows = [json.loads(line) for line in results.path.read_text().splitlines()]
    assert [row["brief"] for row in rows] == ["a cat", "a car"]


def test_a_damaged_row_in_the_middle_is_named(tmp_path: Path) -> None:
    written(tmp_path, 'garbage\n{"id": "2", "brief": "a car"}\n', RESULTS)
    with pytest.raises(ValueError, match="line 1, is damaged"):
        Results(tmp_path)


def test_rows_of_another_briefs_file_are_not_mistaken_for_done(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.write(Item(id="1", brief="a cat"), {})
    with pytest.raises(ValueError, match="belongs to another briefs file"):
        results.has(Item(id="1", brief="a car"))


def test_going_on_with_other_settings_is_refused_with_both_values(tmp_path: Path) -> None:
    keep_settings(tmp_path, OptimizeRequest(brief="any", seed=1))
    keep_settings(tmp_path, OptimizeRequest(brief="another", seed=1))
    with pytest.raises(ValueError, match="seed was 1, is 2"):
        keep_settings(tmp_path, OptimizeRequest(brief="any", seed=2))


# Whole batches, on a tiny random model


@pytest.fixture
def command(ddim_folder: Path, clip_folder: Path, tmp_path: Path) -> list[str]:
    options = ["--model", str(ddim_folder), "--scorer", f"clip:{clip_folder}", "--steps", "5"]
    return ["optimize", *options, "--out", str(tmp_path / "out")]


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / RESULTS).read_text().splitlines()]


def test_a_brief_that_fails_leaves_its_error_and_the_batch_goes_on(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, '{"brief": "a cat"}\n{"brief": ""}\n{"prompt": "a red car"}\n')
    assert main([*command, "--briefs", str(file), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == {
        "briefs": 3,
        "skipped": 0,
        "failed": 1,
        "results": str(tmp_path / "out" / RESULTS),
    }
    first, bad, last = rows(tmp_path / "out")
    assert "at least 1 character" in bad["error"]
    assert [first["brief"], last["brief"]] == ["a cat", "a red car"]
    assert Path(last["best"]["image"]).is_file()


def test_a_killed_batch_goes_on_with_the_run_in_flight(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, "a cat\na red car\na dog\n")
    arguments = [*command, "--briefs", str(file)]
    process = subprocess.Popen(
        [sys.executable, "-m", "promptprobe", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "starting" in line and "/000002/" in line:
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    out = tmp_path / "out"
    assert [row["brief"] for row in rows(out)] == ["a cat"]
    (in_flight,) = (out / "runs/000002").iterdir()

    assert main(arguments) == 0
    assert "3 briefs, 1 skipped, 0 failed" in capsys.readouterr().out
    assert [row["brief"] for row in rows(out)] == ["a cat", "a red car", "a dog"]
    assert rows(out)[1]["run_dir"] == str(in_flight)

    assert main(arguments) == 0
    assert "3 briefs, 3 skipped" in capsys.readouterr().out
    assert len(rows(out)) == 3
