"""A killed run ends as one that nobody killed: a few of what `eval survival` kills."""

from __future__ import annotations

from promptprobe.evals.survival.survival import evaluate, lines, spread


def test_runs_killed_at_writes_and_at_random_end_as_an_unbroken_one() -> None:
    report = evaluate("sprites", kills=2, at_random=1, steps=5, renders=3)
    assert report["at_writes"]["killed"] == report["at_writes"]["runs"] == 2
    assert report["at_random"]["runs"] == 1
    differences = [case for name in ("at_writes", "at_random") for case in report[name]["cases"]]
    assert not any(case["differs"] for case in differences), differences
    assert "0 of 2" in "".join(lines(report))


def test_kills_are_spread_over_the_whole_run() -> None:
    assert spread(100, 4) == [1, 26, 51, 76]
    assert spread(3, 40) == [1, 2, 3]
