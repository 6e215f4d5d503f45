"""A person lets candidates go on by hand: within the budget, and asked once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from promptprobe import Choice
from promptprobe.agent import context
from promptprobe.agent.context import Context, Person
from promptprobe.agent.events import CandidatesSelected
from promptprobe.agent.ledger import Ledger
from promptprobe.agent.report.page import run_page
from promptprobe.agent.result import OptimizationResult
from promptprobe.agent.run_folder import read
from promptprobe.agent.runner import run_loop
from promptprobe.agent.search.choice import Choose
from promptprobe.tools.records import Budget, Candidate
from tests.agent.scripted import ScriptedTools, offline, start


def run(
    run_dir: Path, choose: Choose | None, events: list[Any] | None = None
) -> OptimizationResult:
    tools, told = ScriptedTools(run_dir.parent / "log"), [] if events is None else events
    going = run_loop(run_dir, tools, offline(), told.append, person=Person(choose=choose))
    return asyncio.run(going)


def worst(choice: Choice) -> list[Candidate]:
    """Those whom the plan would drop."""
    return [t.candidate for t in choice.trials if t.candidate not in choice.planned][-2:]


def test_the_persons_picks_go_on_instead_of_the_planned(tmp_path: Path) -> None:
    seen: list[Choice] = []
    events: list[Any] = []

    async def choose(choice: Choice) -> Sequence[Candidate]:
        seen.append(choice)
        return worst(choice)

    result = run(start(tmp_path, "medium"), choose, events)
    first = seen[0]
    assert [t.candidate for t in first.trials][: len(first.planned)] == list(first.planned)
    assert all(trial.prediction and trial.looks[-1].step == first.step for trial in first.trials)
    by_hand = [e for e in events if isinstance(e, CandidatesSelected) and e.by_person]
    assert [e.candidates for e in by_hand] == [tuple(worst(choice)) for choice in seen]
    dropped = {t.candidate for choice in seen for t in choice.trials} - {
        candidate for event in by_hand for candidate in event.candidates
    }
    assert not dropped & {trial.candidate for trial in result.trials if trial.image}
    assert result.spent.nfe <= 8 * 50
    assert "a person let others go on" in run_page(result)


def test_a_budget_is_held_however_many_are_picked(tmp_path: Path) -> None:
    def all_of_them(choice: Choice) -> list[Candidate]:
        return [trial.candidate for trial in choice.trials][: choice.most]

    result = run(start(tmp_path, Budget(renders=6)), all_of_them)
    assert 5 * 50 < result.spent.nfe <= 6 * 50


def test_none_goes_on_as_planned_and_an_empty_list_drops_them_all(tmp_path: Path) -> None:
    for name in ("unasked", "planned", "none"):
        (tmp_path / name).mkdir()
    unasked = run(start(tmp_path / "unasked", "medium"), None)
    planned = run(start(tmp_path / "planned", "medium"), lambda choice: None)
    assert [t.candidate for t in planned.trials] == [t.candidate for t in unasked.trials]
    nobody = run(start(tmp_path / "none", "medium"), lambda choice: [])
    assert not [trial for trial in nobody.trials if trial.image and trial.round == 1]
    assert len(nobody.trials) > len(unasked.trials)  # what they would have cost buys new ones


def test_who_is_asked_at_all_sees_somebody_who_would_be_dropped(tmp_path: Path) -> None:
    seen: list[Choice] = []
    run(start(tmp_path, "medium"), seen.append)
    assert seen
    assert all(len(choice.trials) > len(choice.planned) for choice in seen)
    assert all(len(choice.planned) <= choice.most <= len(choice.trials) for choice in seen)


@pytest.mark.parametrize("lost", [False, True], ids=["checkpoint kept", "checkpoint lost"])
def test_picks_are_remembered(lost: bool, tmp_path: Path) -> None:
    run_dir = start(tmp_path, "medium")
    first = run(run_dir, worst)
    ledger = run_dir / "trials.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    asked = [at for at, line in enumerate(lines) if '"kind":"chosen"' in line]
    ledger.write_text("".join(lines[: asked[-1] + 1]))
    if lost:
        (run_dir / "checkpoint.sqlite").unlink()
    again = run(run_dir, None)
    assert [t.candidate for t in again.trials if t.image] == [
        t.candidate for t in first.trials if t.image
    ]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            [Candidate(prompt="another", seed=1)],
            "must return a list of candidates from choice.trials",
        ),
        ("all", "must return a list"),
        (3, "must return a list"),
        ([["unhashable"]], "must return a list"),
    ],
)
def test_answers_that_cannot_be_meant_are_refused(answer: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says):
        run(start(tmp_path, "medium"), lambda choice: answer)


def test_more_than_the_budget_pays_for_are_refused(tmp_path: Path) -> None:
    def everybody(choice: Choice) -> list[Candidate]:
        return [trial.candidate for trial in choice.trials]

    with pytest.raises(ValueError, match=r"returned \d+ candidates, but the rest of the budget"):
        run(start(tmp_path, Budget(renders=5, prompts=3, seeds=4, keep=1)), everybody)


def test_a_persons_time_is_none_of_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cap on seconds would end a run that waits."""
    run_dir, now = start(tmp_path), [100.0]
    run = Context(read(run_dir), ScriptedTools(tmp_path), offline(), Ledger(run_dir), began=60)
    monkeypatch.setattr(context, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with run.waiting():
        now[0] += 1000
    assert run.seconds == 40
