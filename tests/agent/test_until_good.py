"""Runs that end with the first good picture, over scripted tools: waves of looks, and the end."""

from __future__ import annotations

from pathlib import Path

from promptprobe.agent.events import CandidatesProbed, CandidatesScored, RoundStarted
from promptprobe.agent.rewrite.proposers import SeedsOnly
from tests.agent.scripted import ScriptedTools
from tests.agent.test_loop import of, run


def test_a_run_that_ends_with_a_good_picture_looks_at_two_at_a_time_and_stops_there(
    tmp_path: Path,
) -> None:
    tools = ScriptedTools(tmp_path / "log")
    result, events = run(tmp_path, SeedsOnly("seeds"), tools, target=0.8, budget="medium")
    waves = [len(event.trials) for event in of(CandidatesProbed, events) if event.round]
    assert set(waves) <= {1, 2}
    assert result.stop_reason == "target reached"
    assert result.best.score is not None
    assert result.best.score.value is not None
    assert result.best.score.value >= 0.8 > (result.initial.score.value or 0)  # type: ignore[union-attr]
    assert of(CandidatesScored, events)[-1].trials[0].candidate == result.best.candidate
    [schedule] = {event.schedule for event in of(RoundStarted, events) if event.schedule.waves}
    looked = [trial for trial in result.trials if trial.round]
    assert len(looked) < schedule.candidates
    dropped = [t.prediction.score for t in looked if not t.image and t.prediction]
    assert max(dropped) < min(t.prediction.score for t in looked if t.image and t.prediction)


def test_a_target_out_of_reach_is_sought_until_the_budget_is_spent_and_not_beyond(
    tmp_path: Path,
) -> None:
    result, _ = run(tmp_path, SeedsOnly("seeds"), target=3.0)
    assert result.stop_reason == "budget spent"
    assert 3 * 50 < result.spent.nfe <= 4 * 50
    assert any(trial.image for trial in result.trials if trial.round)
