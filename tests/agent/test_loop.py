"""The graph over scripted tools: what a run tries, keeps, says and leaves behind."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from promptprobe.agent.events import Event, PromptsProposed, RoundEnded, Warned
from promptprobe.agent.result import OptimizationResult, read_result
from promptprobe.agent.rewrite.proposers import CallersPrompts, Proposer, SeedsOnly
from promptprobe.agent.runner import run_loop
from promptprobe.tools.protocol import Rendered
from promptprobe.tools.records import Candidate
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
    assert len(result.trials) == 1 + 2 * 16
    assert len(rendered) == 1 + 2 * 3
    assert result.stop_reason == "budget spent"
    values = [trial.score.value for trial in rendered if trial.score and trial.score.value]
    assert result.best.score is not None
    assert result.best.score.value == max(values)
    assert result.spent.nfe == 33 * 10 + 7 * 40
    assert result.top(3)[0] == result.best


def test_the_brief_competes_in_every_round(tmp_path: Path) -> None:
    _, events = run(tmp_path)
    assert [event.prompts[0] for event in of(PromptsProposed, events)] == [BRIEF] * 3


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


def test_a_run_gives_up_after_two_rounds_without_a_better_score(tmp_path: Path) -> None:
    class Level(ScriptedTools):
        def _score(self, candidate: Candidate) -> float:
            return 0.5

    result, events = run(tmp_path, tools=Level(tmp_path / "log"), budget="heavy")
    assert result.stop_reason == "no improvement"
    assert len(of(RoundEnded, events)) == 3
    assert result.best == result.initial


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
    result, events = run(tmp_path, CallersPrompts((other, more, BRIEF.upper())))
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
    assert len({trial.candidate.seed for trial in result.trials}) == 1 + 2 * 4


def test_words_beyond_the_token_limit_are_named(tmp_path: Path) -> None:
    result, _ = run(tmp_path, tools=ScriptedTools(tmp_path / "log", cut=("automobile",)))
    assert any("never sees automobile" in message for message in result.warnings)


def test_latents_are_gone_when_a_run_ends_and_images_stay(tmp_path: Path) -> None:
    result, _ = run(tmp_path)
    names = {path.name for path in result.run_dir.iterdir()}
    assert names == {"run.json", "trials.jsonl", "images", "checkpoint.sqlite", "lock"}
    assert len(list((result.run_dir / "images").iterdir())) == 7


def test_every_event_is_typed_and_tells_what_was_spent(tmp_path: Path) -> None:
    _, events = run(tmp_path)
    adapter: TypeAdapter[Event] = TypeAdapter(Event)
    for event in events:
        assert adapter.validate_json(adapter.dump_json(event)) == event
    spent = [event.spent.nfe for event in events]
    assert spent == sorted(spent)
    assert [event.kind for event in events if event.kind.startswith("r")] == [
        "run started",
        *(["round started", "round ended"] * 3),
    ]
    assert of(RoundEnded, events)[-1].decision == "stop"
    assert 0 <= of(RoundEnded, events)[-1].audit <= 0.2


def test_the_loop_is_free_while_tools_work(tmp_path: Path) -> None:
    ticked, probing = threading.Event(), threading.Event()

    class Waiting(ScriptedTools):
        def probe(self, *given: Any) -> Any:
            probing.set()
            assert ticked.wait(30), "the event loop stood still while a tool worked"
            return super().probe(*given)

    async def beside() -> OptimizationResult:
        tools = Waiting(tmp_path / "log")
        work = asyncio.create_task(run_loop(start(tmp_path), tools, offline()))
        while not probing.is_set():
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
