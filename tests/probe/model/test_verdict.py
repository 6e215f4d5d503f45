"""The verdict: a probe is used where the same prompts show that it beats the preview."""

from __future__ import annotations

import numpy as np
import pytest

from promptprobe.probe.model.verdict import Comparison, compared, verdict


def found(lead: float, *, prompts: int = 40, spread: float = 0.05) -> Comparison:
    """A probe that is so far ahead of a preview at .7, prompt by prompt with some spread."""
    pairs = np.full(prompts, 20.0)
    leads = lead + spread * np.linspace(-1, 1, prompts)
    one = compared((0.7 + leads) * pairs, 0.7 * pairs, pairs)
    assert one is not None
    return one


def test_the_interval_of_the_paired_difference_decides() -> None:
    better, level, worse = found(0.1), found(0.0), found(-0.1)
    assert (better.finding, level.finding, worse.finding) == ("better", "not better", "not better")
    assert better.difference == pytest.approx(0.1, abs=1e-3)
    assert better.low is not None and better.high is not None
    assert better.low < better.difference < better.high
    assert found(0.1, prompts=5).finding == "too few"
    assert found(0.02, spread=1.0).finding == "too few"


def test_prompts_count_by_their_pairs_and_those_without_any_are_left_out() -> None:
    one = compared(np.array([3.0, 9.0, 0.0]), np.array([1.0, 9.0, 0.0]), np.array([4.0, 12.0, 0]))
    assert one is not None
    assert (one.prompts, one.probe, one.preview) == (2, 0.75, 0.625)
    assert compared(np.zeros(2), np.zeros(2), np.zeros(2)) is None
    alone = compared(np.array([3.0]), np.array([1.0]), np.array([4.0]))
    assert alone is not None and alone.low is None and alone.finding == "too few"


def test_the_sentence_says_after_which_steps_and_what_would_tell() -> None:
    unsure = found(0.02, spread=0.3)
    said = verdict({1: found(-0.1), 2: found(0.1), 3: found(0.1), 5: found(0.1), 8: unsure})
    assert said == (
        "better than the preview after 2 to 5 steps; not better than the preview after 1 step: "
        "previews are used; 40 prompts are too few to tell after 8 steps: previews are used; about "
        f"{unsure.more_prompts} more held-out prompts would tell"
    )
    assert unsure.more_prompts > 20
    assert verdict({1: found(0), 2: found(0)}) == "not better than the preview: previews are used"
    assert verdict({}) == ""
