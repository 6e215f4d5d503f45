"""Files of prompts as people and benchmarks write them, read by one reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from promptprobe.tools.prompt_files import (
    MAX_FILE,
    PROMPT_NAMES,
    foreign_syntax,
    read_prompt_file,
    unused_fields,
)


def written(folder: Path, content: str | bytes, name: str = "prompts.txt") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def prompts(folder: Path, content: str | bytes, name: str = "prompts.txt") -> list[str]:
    return [row.prompt for row in read_prompt_file(written(folder, content, name))]


TEXT = "# my briefs\r\na cat\r\n\r\n  two keys \rقطة\n{red|blue} fox\n[a] dog"
READ = ["a cat", "two keys", "قطة", "{red|blue} fox", "[a] dog"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_text_has_a_prompt_a_line_in_any_unicode(tmp_path: Path, encoding: str) -> None:
    assert prompts(tmp_path, TEXT.encode(encoding)) == READ


@pytest.mark.parametrize("column", ["Prompt", *PROMPT_NAMES, " TEXT "])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_names_the_column_of_the_prompt(tmp_path: Path, column: str, delimiter: str) -> None:
    table = (
        f'id{delimiter}{column}\n7{delimiter}"a cat, a dog; ""two""\n keys"\n\n8{delimiter}fox\n'
    )
    read = prompts(tmp_path, table, "briefs.CSV")
    assert read == ['a cat, a dog; "two"\n keys', "fox"]


@pytest.mark.parametrize("name", ["parti.tsv", "parti.txt"])
def test_partiprompts_are_read_as_published(tmp_path: Path, name: str) -> None:
    table = (
        'Prompt\tCategory\tChallenge\tNote\nbond\tAbstract\tBasic\t\n"G I G" in paint\tArts\t\t\n'
    )
    rows = read_prompt_file(written(tmp_path, table, name))
    assert [row.prompt for row in rows] == ["bond", '"G I G" in paint']
    assert unused_fields(rows, ("category",)) == "fields of the file that are not used: 'challenge'"


def test_genevals_metadata_is_read_as_published(tmp_path: Path) -> None:
    line = {"tag": "counting", "include": [{"class": "fox", "count": 2}], "prompt": "two foxes"}
    [row] = read_prompt_file(written(tmp_path, json.dumps(line), "metadata.jsonl"))
    assert row.prompt == "two foxes"
    assert unused_fields([row], ()).endswith("'tag', 'include'")


LINES = '{"prompt": "a cat", "seed": 7, "id": null}\n"two keys"\n'


@pytest.mark.parametrize("name", ["a.jsonl", "a.JSONL", "a.ndjson", "a.NDJson", "a.txt", "a.json"])
def test_json_lines_are_known_by_name_or_by_the_first_line(tmp_path: Path, name: str) -> None:
    rows = read_prompt_file(written(tmp_path, LINES, name))
    assert [row.prompt for row in rows] == ["a cat", "two keys"]
    assert rows[0].fields == {"seed": 7}


@pytest.mark.parametrize(
    "value",
    [
        ["a cat", "two keys"],
        [{"caption": "a cat"}, {"text": "two keys"}],
        {"prompts": ["a cat", "two keys"]},
    ],
    ids=["texts", "objects", "under a name"],
)
@pytest.mark.parametrize("name", ["a.json", "a.JSON"])
def test_json_is_a_list(tmp_path: Path, value: object, name: str) -> None:
    assert prompts(tmp_path, json.dumps(value, indent=1), name) == ["a cat", "two keys"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"brief": "a cat"', "line 2 is no JSON"),
        ('{"colour": "red"}', "line 2: expected"),
        ('{"brief": 5}', "line 2: expected a text"),
        ('["a cat"]', "line 2: expected"),
        ('{"brief": " "}', "line 2: its prompt is empty"),
        ("[" * 5000, "line 2 is no JSON"),
        (json.dumps({"brief": "x" * 70_000}), "line 2 has over 65,536 characters"),
    ],
)
def test_a_bad_row_says_so_and_the_others_are_read(tmp_path: Path, line: str, said: str) -> None:
    content = f'{{"brief": "a cat"}}\n{line}\n{{"brief": "a dog"}}\n'
    before, bad, after = read_prompt_file(written(tmp_path, content, "b.jsonl"))
    assert said in bad.problem
    assert len(bad.prompt) <= 200
    assert before.problem == after.problem == ""


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"", "at least one prompt"),
        ("a.txt", b"# nothing\n \n", "at least one prompt"),
        ("a.txt", b"\x89PNG\r\n\x1a\n\xff\xfe", "UTF-8 or UTF-16"),
        ("a.txt", b"a" * (MAX_FILE + 1), "larger than 64 MiB"),
        ("a.csv", b"name,price\na cat,3\n", "one of them .*, got 'name', 'price' in .*a.csv"),
        ("a.csv", b"", "got nothing"),
        ("a.csv", b'prompt\n"a cat\n', "is no table"),
        ("a.tsv", b"a cat\na dog\n", "got 'a cat'"),
        ("a.json", b"a cat", "is no JSON"),
        ("a.json", b"7", "expected a list of prompts"),
    ],
)
def test_a_useless_file_is_refused_as_a_whole(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        read_prompt_file(written(tmp_path, content, name))


@pytest.mark.parametrize(
    "syntax", ["(red:1.3)", "<lora:pixel:0.8>", "BREAK", "{red|blue}", "[cat:dog:0.5]"]
)
def test_the_syntax_of_other_programs_is_named(syntax: str) -> None:
    assert repr(syntax) in foreign_syntax(f"a cat, {syntax} on a mat")


@pytest.mark.parametrize(
    "prompt", ["a cat (red) at 12:30", "a sign that says 'Break'", "x < y, [sic]", "at {home}"]
)
def test_plain_prompts_are_not_taken_for_it(prompt: str) -> None:
    assert foreign_syntax(prompt) == ""
