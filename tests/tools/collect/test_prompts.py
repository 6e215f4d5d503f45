"""Prompts to learn from: read from files, split by scene, never a seed twice."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import get_args

import pytest

from promptprobe.tools.collect.prompts import Wanted, jobs, read_prompts
from promptprobe.tools.sprites.language import read
from promptprobe.tools.sprites.prompts import SHARES, Part, prompts


def test_a_text_file_has_a_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("a red cat\n\n  a dog  \n", encoding="utf-8")
    assert [wanted.prompt for wanted in read_prompts(path)[0]] == ["a red cat", "a dog"]


def test_json_lines_say_more(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a kitty", "scene": "cat", "split": "validation"}\n')
    [wanted], _ = read_prompts(path)
    assert (wanted.content, wanted.part) == ("cat", "validation")


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("a.txt", b"a\n" + b"x" * 20_000, "line 2: prompt: .*4000 characters"),
        ("a.txt", b"a\x00cat", "line 1: prompt: .*control characters"),
        ("a.jsonl", b'{"prompt": "a"}\n{"prompt": 3}', "line 2: expected a text"),
        ("a.jsonl", b'{"prompt": "a", "split": "test"}', "line 1: split: "),
    ],
)
def test_a_bad_file_is_refused_with_its_line(
    tmp_path: Path, name: str, data: bytes, problem: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"{name}.*{problem}"):
        read_prompts(path)


def test_what_training_does_not_use_or_understand_is_named(tmp_path: Path) -> None:
    path = tmp_path / "prompts.csv"
    path.write_text("caption,scene,artist\n(red:1.3) cat,cat,me\n")
    [wanted], notice = read_prompts(path)
    assert wanted.content == "cat"
    assert "'artist'" in notice
    assert "'(red:1.3)'" in notice


def test_all_wordings_of_a_scene_share_a_split_and_no_seed() -> None:
    wordings = [Wanted(prompt=f"wording {number}", scene="one") for number in range(20)]
    found = [job for group in jobs(wordings, 4) for job in group]
    assert len({job.wanted.part for job in found}) == 1
    assert len({job.seed for job in found}) == 80


def test_three_tenths_of_the_scenes_validate_and_case_is_no_scene_of_its_own() -> None:
    many = [Wanted(prompt=f"prompt {number}") for number in range(2000)]
    share = sum(wanted.part == "validation" for wanted in many) / 2000
    assert share == pytest.approx(0.3, abs=0.03)
    assert Wanted(prompt="A  Cat").content == Wanted(prompt="a cat").content


@pytest.mark.parametrize("split", get_args(Part))
def test_prompts_of_sprites_keep_to_their_split_and_say_their_scene(split: Part) -> None:
    for wanted in islice(prompts(split), 200):
        scene = read(wanted.prompt).scene
        assert scene is not None
        assert (scene.key, wanted.part) == (wanted.scene, split)
        assert scene.kind == "one object" or scene.split == split


def test_no_scene_of_sprites_meets_a_seed_twice_in_any_split() -> None:
    pairs = [
        (job.wanted.scene, job.seed)
        for split in get_args(Part)
        for group in jobs(islice(prompts(split), 600), 4)
        for job in group
    ]
    assert len(set(pairs)) == len(pairs)


def test_every_kind_of_sprites_is_there_in_its_share() -> None:
    kinds = [wanted.kind for wanted in islice(prompts("train"), 1000)]
    for kind, share in SHARES.items():
        assert kinds.count(kind) / 1000 == pytest.approx(share, abs=0.05)
