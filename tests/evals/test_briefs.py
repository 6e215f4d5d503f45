"""What an eval measures on: a file of prompts, less those that made the probe, divided by hash."""

from __future__ import annotations

import pytest

from promptprobe.evals.bench import Bench
from promptprobe.evals.briefs import from_file
from promptprobe.evals.gain.correctness import good_of
from promptprobe.evals.gain.gain import too_few_renders
from promptprobe.tools.collect.prompts import content_of
from promptprobe.tools.records import Score

PROMPTS = [f"a cat number {at}" for at in range(9)]


def test_a_third_of_a_file_is_set_apart_whatever_the_order_of_its_prompts(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join([*PROMPTS, "A  cat number 3"]))
    first = from_file(file)
    file.write_text("\n".join(reversed(PROMPTS)))
    second = from_file(file)
    assert (len(first.test), len(first.known)) == (6, 3)
    assert {one.text for one in first.known} == {one.text for one in second.known}
    assert len({seed for one in first.test + first.known for seed in one.seeds(4)}) == 36


def test_prompts_that_made_the_probe_are_left_out_with_a_notice(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(PROMPTS))
    trained = {content_of(f" {prompt.upper()}") for prompt in PROMPTS[:5]}
    found = from_file(file, trained=trained)
    assert {one.text for one in found.test + found.known} == set(PROMPTS[5:])
    assert "5 of 9 prompts" in found.notes[0]
    assert len(from_file(file, most=2, trained=trained, choosing=False).test) == 2
    with pytest.raises(ValueError, match=r"at least 4 prompts .* got 3 of"):
        from_file(file, most=3, trained=trained)


def scored(*values: float, correct: bool | None = None) -> list[list[Score]]:
    return [[Score(value=value, correct=correct) for value in values]]


def nobody(brief: str, images: object) -> list[Score]:
    return []


def test_what_is_good_is_as_asked_for_or_as_the_judge_says_or_a_median():
    bench = Bench("m", None, None, nobody, nobody, scorer="s", grader="j")
    found = good_of(bench, scored(1.0, 2.0, 3.0), scored(5.0, correct=True))
    assert (found.selector, found.judge) == (2.0, None)
    assert found.text == "s >= 2, the median of the naive renders; j says so itself"
    alone = Bench("m", None, None, nobody, nobody, scorer="s", grader="s", good=2.5)
    found = good_of(alone, scored(1.0, correct=True), scored(1.0, correct=True))
    assert (found.selector, found.judge) == (2.5, 2.5)


def test_a_naive_baseline_with_fewer_renders_than_it_could_pay_for_is_told():
    assert too_few_renders({"nfe": 4.0}, 4) == []
    [note] = too_few_renders({"nfe": 4.0, "seconds": 9.1}, 4)
    assert "only 4 of the 9.1 renders" in note
    assert "--seeds 10" in note
