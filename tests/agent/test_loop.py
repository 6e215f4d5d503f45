"""The graph over scripted tools: what a run tries, keeps, says and leaves behind."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from promptprobe.agent.events import (
    CandidatesScored,
    Event,
    PromptsProposed,
    RoundEnded,
    RoundStarted,
    Warned,
)
from promptprobe.agent.result import OptimizationResult, read_result
from promptprobe.agent.rewrite.proposers import CallersPrompts, Proposer, SeedsOnly
from promptprobe.agent.run_folder import CHECKPOINT
from promptprobe.agent.runner import run_loop
from promptprobe.tools.protocol import Probed, Rendered
from promptprobe.tools.records import Budget, Candidate, Score
from tests.agent.scripted import ScriptedTools, offline, start

BRIEF = "a scarlet kitty next to a navy automobile"


def run(
    out: Path, proposer: Proposer | None = None, tools: Any = None, **settings: object
) -> tuple[OptimizationResult, list[Any]]:
    events: list[Any] = []
    tools = tools or ScriptedTools(out / "log")
    run_dir = start(out, **settings)  # type: ignore[arg-type]
    result = asyncio.run(run_loop(run_dir, tools, proposer or offline(), events.append))
    return result, events


def of(kind: type[BaseModel], events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_the_initial_trial_is_the_brief_with_the_first_seed_rendered(tmp_path: Path) -> None:
    result, _ = run(tmp_path, seed=5)
    assert result.initial.candidate == Candidate(prompt=BRIEF, seed=5)
    assert result.initial.round == 0
    assert result.initial.image is not None
    assert result.initial.image.is_file()
    assert result.initial.score is not None


def test_a_light_run_spends_its_budget_and_the_best_is_the_best_score(tmp_path: Path) -> None:
    result, _ = run(tmp_path)
    rendered = [trial for trial in result.trials if trial.image]
    assert result.stop_reason == "budget spent"
    assert 3 * 50 < result.spent.nfe <= 4 * 50
    assert len(result.trials) > 4 >= len(rendered)
    values = [trial.score.value for trial in rendered if trial.score and trial.score.value]
    assert result.best.score is not None
    assert result.best.score.value == max(values)
    assert result.top(3)[0] == result.best


def test_the_brief_competes_in_every_round_that_rewrites(tmp_path: Path) -> None:
    _, events = run(tmp_path, budget="heavy")
    first = {event.prompts[0] for event in of(PromptsProposed, events) if event.accepted}
    assert first == {BRIEF}


def test_the_same_seed_makes_the_same_run(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    one, other = (run(tmp_path / name)[0] for name in ("one", "other"))
    assert [t.candidate for t in one.trials] == [t.candidate for t in other.trials]
    assert one.best.candidate == other.best.candidate
    (tmp_path / "third").mkdir()
    third, _ = run(tmp_path / "third", seed=1)
    assert {t.candidate.seed for t in third.trials}.isdisjoint(t.candidate.seed for t in one.trials)


def test_a_run_stops_at_once_when_the_brief_alone_is_correct(tmp_path: Path) -> None:
    result, _ = run(tmp_path, tools=ScriptedTools(tmp_path / "log", correct_above=0.0))
    assert result.stop_reason == "target reached"
    assert result.best == result.initial
    assert len(result.trials) == 1


def test_a_run_gives_up_where_no_round_is_expected_to_be_better(tmp_path: Path) -> None:
    class Lucky(ScriptedTools):
        def _score(self, candidate: Candidate) -> float:
            first = candidate == Candidate(prompt=BRIEF, seed=0)
            return 0.9 if first else 0.1 * super()._score(candidate)

    result, _ = run(tmp_path, tools=Lucky(tmp_path / "log"), budget="heavy")
    assert result.stop_reason == "no improvement"
    assert result.spent.nfe < 24 * 50
    assert result.best == result.initial


def test_a_target_ends_a_run_at_the_first_picture_that_reaches_it(tmp_path: Path) -> None:
    result, _ = run(tmp_path, budget="heavy", target=0.9)
    assert result.stop_reason == "target reached"
    values = [t.score.value for t in result.trials if t.score and t.score.value is not None]
    assert [value for value in values if value >= 0.9] == [result.best.score.value]  # type: ignore[union-attr]
    assert result.spent.nfe < 24 * 50


def test_a_scorer_that_scores_no_picture_ends_the_run_after_four(tmp_path: Path) -> None:
    tools = ScriptedTools(tmp_path / "log", scorer_fails=True)
    result, _ = run(tmp_path, tools=tools, budget="heavy", target=0.999)
    assert result.stop_reason == "scorer failed"
    assert sum(trial.image is not None for trial in result.trials) == 4
    assert result.spent.nfe < 12 * 50
    (said,) = (one for one in result.warnings if "so the run stops here" in one)
    assert said.startswith("red and green scores no picture (the scorer is out of order)")


@pytest.mark.parametrize("checkpoint", ["kept", "lost"])
def test_a_run_whose_scorer_failed_goes_on_once_it_works(checkpoint: str, tmp_path: Path) -> None:
    broken = ScriptedTools(tmp_path / "log", scorer_fails=True)
    failed, _ = run(tmp_path, tools=broken, budget="heavy")
    assert failed.stop_reason == "scorer failed"
    run_dir = failed.run_dir
    if checkpoint == "lost":
        (run_dir / CHECKPOINT).unlink()
    tools = ScriptedTools(tmp_path / "log")
    result = asyncio.run(run_loop(run_dir, tools, offline()))
    assert result.stop_reason in ("budget spent", "no improvement")
    finished = [trial for trial in result.trials if trial.image]
    assert len(finished) > sum(trial.image is not None for trial in failed.trials)
    assert all(trial.score and trial.score.value is not None for trial in finished)
    log = (tmp_path / "log").read_text().splitlines()
    assert len(log) == len(set(log))
    assert asyncio.run(run_loop(run_dir, tools, offline())) == result


def test_a_failing_scorer_leaves_trials_unscored_with_a_reason(tmp_path: Path) -> None:
    result, events = run(tmp_path, tools=ScriptedTools(tmp_path / "log", scorer_fails=True))
    scores = [trial.score for trial in result.trials if trial.score]
    assert {score.value for score in scores} == {None}
    assert {score.reason for score in scores} == {"the scorer is out of order"}
    assert [event.message for event in of(Warned, events)] == list(result.warnings)
    assert any("out of order" in message for message in result.warnings)


def test_a_blacked_out_image_is_kept_and_unscored(tmp_path: Path) -> None:
    class Blacked(ScriptedTools):
        def render(self, *given: Any) -> list[Rendered]:
            return [
                r.model_copy(update={"reason": "safety checker"}) for r in super().render(*given)
            ]

    result, _ = run(tmp_path, tools=Blacked(tmp_path / "log"))
    assert result.initial.image is not None
    assert result.initial.score is not None
    assert (result.initial.score.value, result.initial.score.reason) == (None, "safety checker")


def test_a_callers_prompts_are_not_refused_for_their_meaning_and_tried_ones_are(
    tmp_path: Path,
) -> None:
    other, more = "a blue cat next to a red car", "three cats, one of them red"
    proposer = CallersPrompts((BRIEF.upper(), other, more))
    result, events = run(tmp_path, proposer, prompts=proposer.prompts)
    probed = {trial.candidate.prompt for trial in result.trials}
    assert probed == {BRIEF, other, more}
    proposed = of(PromptsProposed, events)[1]
    assert proposed.accepted == (other, more)
    assert [refusal.prompt for refusal in proposed.refused] == [BRIEF.upper()]
    assert all(refusal.reason for refusal in proposed.refused)


def test_a_notice_names_what_a_callers_prompt_changes_for_certain(tmp_path: Path) -> None:
    brief = "two cats and a sign that says 'OPEN'"
    proposer = CallersPrompts(("cats and a sign that says 'OPEN'", "two cats and a sign"))
    run_dir = start(tmp_path, brief=brief)
    result = asyncio.run(run_loop(run_dir, ScriptedTools(tmp_path / "log"), proposer))
    told = " ".join(result.warnings)
    assert "it drops the count 2" in told
    assert "it changes or drops the text 'OPEN'" in told


def test_seeds_only_never_changes_the_prompt(tmp_path: Path) -> None:
    result, _ = run(tmp_path, SeedsOnly("rewriting is off"))
    assert {trial.candidate.prompt for trial in result.trials} == {BRIEF}
    assert len({trial.candidate.seed for trial in result.trials}) == len(result.trials) > 4


def test_words_beyond_the_token_limit_are_named(tmp_path: Path) -> None:
    result, _ = run(tmp_path, tools=ScriptedTools(tmp_path / "log", cut=("automobile",)))
    assert any("never sees automobile" in message for message in result.warnings)


def test_latents_are_gone_when_a_run_ends_and_images_stay(tmp_path: Path) -> None:
    result, _ = run(tmp_path)
    names = {path.name for path in result.run_dir.iterdir()}
    assert names == {"run.json", "trials.jsonl", "images", "previews", "checkpoint.sqlite", "lock"}
    rendered = [trial for trial in result.trials if trial.image]
    assert len(list((result.run_dir / "images").iterdir())) == len(rendered)
    seen = {trial.preview for trial in result.trials if trial.looks}
    assert seen <= set((result.run_dir / "previews").iterdir())


def test_every_event_is_typed_and_tells_what_was_spent(tmp_path: Path) -> None:
    _, events = run(tmp_path)
    adapter: TypeAdapter[Event] = TypeAdapter(Event)
    for event in events:
        assert adapter.validate_json(adapter.dump_json(event)) == event
    spent = [event.spent.nfe for event in events]
    assert spent == sorted(spent)
    kinds = [event.kind for event in events if event.kind in ("started", "round started", "round")]
    rounds = len(of(RoundEnded, events))
    assert kinds == ["started", *(["round started", "round"] * rounds)]
    assert of(RoundEnded, events)[-1].decision == "stop"
    assert 0 <= of(RoundEnded, events)[-1].trust.error <= 0.2


def test_the_loop_is_free_while_tools_work(tmp_path: Path) -> None:
    ticked, probing = threading.Event(), threading.Event()

    class Waiting(ScriptedTools):
        def probe(self, *given: Any, **named: Any) -> Any:
            probing.set()
            assert ticked.wait(30), "the event loop stood still while a tool worked"
            return super().probe(*given, **named)

    async def beside() -> OptimizationResult:
        tools = Waiting(tmp_path / "log")
        work = asyncio.create_task(run_loop(start(tmp_path), tools, offline()))
        while not probing.is_set() and not work.done():
            await asyncio.sleep(0)
        ticked.set()
        return await work

    assert asyncio.run(beside()).stop_reason == "budget spent"


def test_a_failing_tool_says_how_to_go_on(tmp_path: Path) -> None:
    class Broken(ScriptedTools):
        def render(self, *given: Any) -> list[Rendered]:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory") as caught:
        run(tmp_path, tools=Broken(tmp_path / "log"))
    assert "resume=" in caught.value.__notes__[-1]


def test_a_finished_run_is_read_back_the_same(tmp_path: Path) -> None:
    result, _ = run(tmp_path)
    again = read_result(result.run_dir)
    assert again == result


def test_survivors_go_on_from_their_own_latents_and_nothing_is_paid_twice(tmp_path: Path) -> None:
    result, _ = run(tmp_path, budget="heavy")
    for trial in result.trials:
        if trial.image:
            steps = [look.step for look in trial.looks]
            assert steps == sorted(set(steps))
    paid = sum(2 * (t.looks[-1].step if not t.image else 25) for t in result.trials)
    assert result.spent.nfe == paid


def test_where_looking_does_not_pay_the_schedule_is_naive_best_of_n(tmp_path: Path) -> None:
    tools = ScriptedTools(tmp_path / "log", ranks={24: 0.5})
    result, events = run(tmp_path, tools=tools)
    assert all(event.schedule.is_naive for event in of(RoundStarted, events))
    assert not any(trial.looks for trial in result.trials)
    assert len(result.trials) == 4
    assert result.spent.nfe == 4 * 50


def test_the_budget_is_told_before_the_run_and_each_round_before_it_begins(tmp_path: Path) -> None:
    _, events = run(tmp_path, budget=Budget(renders=6.5))
    assert events[0].nfe == 325
    started = of(RoundStarted, events)
    assert started[0].seconds is None
    assert all(event.seconds > 0 for event in started[1:])
    assert started[1].of == started[-1].round


@pytest.mark.parametrize("renders", [1, 1.7, 2, 5, 7.3])
def test_a_budget_is_held_and_spent(renders: float, tmp_path: Path) -> None:
    result, _ = run(tmp_path, budget=Budget(renders=renders))
    assert result.stop_reason == "budget spent"
    assert renders - 1 < result.spent.nfe / 50 <= renders


def test_a_cap_on_seconds_ends_the_run_with_what_there_is(tmp_path: Path) -> None:
    result, _ = run(tmp_path, budget=Budget(renders=50, seconds=1e-6))
    assert result.stop_reason == "budget spent"
    assert result.best == result.initial


def test_experts_fix_prompts_seeds_and_how_many_are_rendered(tmp_path: Path) -> None:
    budget = Budget(renders=9, prompts=3, seeds=4, keep=2)
    result, events = run(tmp_path, budget=budget)
    schedule = of(RoundStarted, events)[1].schedule
    assert (schedule.candidates, schedule.finishes) == (12, 2)
    of_first = [trial for trial in result.trials if trial.round == 1]
    assert len({trial.candidate.prompt for trial in of_first}) == 3
    assert len({trial.candidate.seed for trial in of_first}) == 12


def test_candidates_that_a_budget_does_not_pay_for_are_told_before_the_first_step(
    tmp_path: Path,
) -> None:
    result, events = run(tmp_path, budget=Budget(renders=4, prompts=4, seeds=64))
    assert isinstance(events[1], Warned)
    assert "of the 256 candidates requested: the budget of 4 renders" in events[1].message
    assert result.stop_reason == "budget spent"


def test_without_a_word_on_what_is_correct_survivors_are_rendered_together(tmp_path: Path) -> None:
    class Plain(ScriptedTools):
        def _read(self, path: Path) -> Score:
            return super()._read(path).model_copy(update={"correct": None})

    _, events = run(tmp_path, tools=Plain(tmp_path / "log"), budget=Budget(renders=9))
    rounds = [event.round for event in of(CandidatesScored, events)]
    assert rounds == sorted(set(rounds))


def test_a_probe_that_misses_is_told_and_previews_decide_instead(tmp_path: Path) -> None:
    class Wrong(ScriptedTools):
        asked: list[bool] = []  # noqa: RUF012 - of this test alone

        def probe(self, *given: Any, previews_only: bool = False, **named: Any) -> list[Probed]:
            self.asked.append(previews_only)
            found = super().probe(*given, previews_only=previews_only, **named)
            if previews_only:
                return found
            sure = {"low": 2.0, "high": 3.0, "basis": "probe"}
            return [
                one.model_copy(update={"prediction": one.prediction.model_copy(update=sure)})
                for one in found
                if one.prediction
            ]

    tools = Wrong(tmp_path / "log")
    result, _ = run(tmp_path, tools=tools, budget="heavy")
    assert tools.asked[0] is False
    assert tools.asked[-1] is True
    assert "scores lie outside of their 90% intervals" in " ".join(result.warnings)
    assert result.trust.broken
    assert result.trust.inside == 0
