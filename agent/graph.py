"""The loop: propose -> (probe -> select, rung by rung) -> render -> score -> reflect, and again.

State is what changes: small records and prompts. Context is what does not. Whatever was paid for is
in the ledger, which every node consults first: LangGraph replays whole nodes after a kill, so a
node may run twice but must pay only once. The edges are at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from pydantic import BaseModel, ConfigDict

from promptprobe.agent import events as e
from promptprobe.agent.context import Context, timed
from promptprobe.agent.grading.judges import grade
from promptprobe.agent.ledger import ProbedLine, RenderedLine, ScoredLine
from promptprobe.agent.run_folder import IMAGES, LATENTS, PREVIEWS
from promptprobe.agent.search import planning, policy, stopping
from promptprobe.agent.search.prompts import approved, rewritten
from promptprobe.agent.search.schedule import Rung, Schedule, Waves
from promptprobe.tools.records import Candidate, Score, Trial

Next = Literal["propose", "probe", "select", "render", "reflect", "__end__"]


class RunState(BaseModel):
    """The current state of a run. Trials are not here but in the ledger."""

    model_config = ConfigDict(extra="forbid")

    round: int = 0
    decision: e.Decision = "rewrite"
    prompts: tuple[str, ...] = ()
    refused: tuple[e.Refusal, ...] = ()
    schedule: Schedule | None = None
    rung: int = 0
    alive: tuple[Candidate, ...] = ()
    looking: tuple[Candidate, ...] = ()
    chosen: tuple[Candidate, ...] = ()
    best: Candidate | None = None
    next: Next = "propose"
    stop_reason: e.StopReason | None = None
    lines: int = 0

    @property
    def planned(self) -> Schedule:
        """The schedule of this round, which `propose` has set."""
        assert self.schedule is not None, "propose comes first"
        return self.schedule


SERIALIZED = (e.Refusal, Candidate, Schedule, Rung, Waves)
"""The only types that a checkpoint may deserialize."""


async def propose(state: RunState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Choose a round's prompts: the brief alone in round 0, then rewrites, or the best again."""
    run, settings = runtime.context, runtime.context.settings
    schedule = state.schedule
    if schedule is None:
        planned = await asyncio.to_thread(lambda: run.plan(run.beliefs(0), 0))
        schedule = planning.first_render(planned)
    run.emit(e.RoundStarted, round=state.round, of=run.last_round(state.round),
             schedule=schedule, seconds=run.expected_seconds(schedule, state.round))  # fmt: skip
    prompts = state.prompts or (settings.brief,)
    accepted: tuple[str, ...] = ()
    refused: tuple[e.Refusal, ...] = ()
    if state.round and state.decision == "rewrite":
        best = state.best.prompt if state.best else None
        prompts, accepted, refused = await rewritten(
            run, state.round, best, schedule, state.refused
        )
    run.emit(e.PromptsProposed, round=state.round, prompts=prompts, accepted=accepted,
             refused=refused)  # fmt: skip
    alive = policy.candidates_of(prompts, schedule.candidates, settings.seed, state.round)
    return {
        "prompts": prompts, "refused": (*state.refused, *refused), "schedule": schedule,
        "alive": alive, "looking": schedule.first(alive), "rung": 0,
    }  # fmt: skip


async def probe(state: RunState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Look at the remaining candidates at a rung, each continuing from its last look."""
    run, done = runtime.context, 0
    latents = run.ledger.run_dir / LATENTS
    latents.mkdir(exist_ok=True)
    _forget_latents(run, state)
    prompts, declined = approved(run, state.round, state.prompts)
    alive, looking = state.alive, state.looking
    if prompts != state.prompts:
        count = state.planned.candidates
        alive = policy.candidates_of(prompts, count, run.settings.seed, state.round)
        looking = state.planned.first(alive)
    previews_only = bool(run.trust(state.round).broken)
    for rung in state.planned.rungs[state.rung : state.rung + 1]:
        for batch in run.batches(looking):
            new = [one for one in batch if not run.ledger.probed(one, rung.step)]
            if new and run.exhausted and state.round:
                break
            if new:
                starts = run.starts(new)
                probed, each = await timed(
                    run.tools.probe, run.settings.brief, new, latents,
                    step=rung.step, latents=starts, previews_only=previews_only,
                    previews=run.ledger.run_dir / PREVIEWS,
                )  # fmt: skip
                lines = [
                    ProbedLine(
                        at=run.seconds, round=state.round, candidate=c, probed=p, seconds=each
                    )
                    for c, p in zip(new, probed, strict=True)
                ]
                run.ledger.write(lines)
                _warn_of_probed(run, lines)
            done += len(batch)
            run.emit(e.CandidatesProbed, round=state.round, trials=run.trials(batch), done=done,
                     of=len(looking))  # fmt: skip
    refused = (*state.refused, *declined)
    return {
        "prompts": prompts, "alive": alive, "looking": looking, "refused": refused,
        "lines": len(run.ledger.lines),
    }  # fmt: skip


async def select(state: RunState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Choose who goes on and, after the last rung, who is rendered now, best predicted first."""
    run, schedule = runtime.context, state.planned
    alive, rung = state.alive, state.rung
    if schedule.waves:
        return _select_in_waves(run, state)
    if rung < len(schedule.rungs):
        step = schedule.rungs[rung].step
        seen = run.trials([one for one in alive if run.ledger.probed(one, step)])
        luck = policy.derive(run.settings.seed, "against advice", state.round)
        alive, explored = policy.go_on(seen, schedule, rung, luck) if seen else ((), ())
        chosen = await run.chosen(state.round, step, seen, alive)
        if chosen is not None:
            alive, explored = chosen, ()
        run.emit(e.CandidatesSelected, round=state.round, candidates=alive, explored=explored,
                 by_person=chosen is not None)  # fmt: skip
        rung += 1
    if alive and rung < len(schedule.rungs):
        return {"alive": alive, "looking": alive, "rung": rung, "next": "probe"}
    waiting = _waiting(run, alive)
    chosen = waiting[:1] if run.to_correct else waiting
    following: Next = "render" if chosen else "reflect"
    return {"alive": alive, "rung": rung, "chosen": chosen, "next": following}


async def render(state: RunState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Finish the survivors from their own latents or, if those are gone, from the same noise."""
    run, images, done = runtime.context, runtime.context.ledger.run_dir / IMAGES, 0
    images.mkdir(exist_ok=True)
    for batch in run.batches(state.chosen):
        new = [candidate for candidate in batch if not run.ledger.rendered(candidate)]
        if new and run.exhausted and state.round:
            break
        if new:
            rendered, each = await timed(run.tools.render, new, run.starts(new), images)
            run.ledger.write(
                [
                    RenderedLine(at=run.seconds, round=state.round, candidate=c, rendered=r,
                                 seconds=each)
                    for c, r in zip(new, rendered, strict=True)
                ]
            )  # fmt: skip
            for notice in (notice for one in rendered for notice in one.notices):
                run.warn(notice)
        done += len(batch)
        run.emit(e.CandidatesRendered, round=state.round, trials=run.trials(batch), done=done,
                 of=len(state.chosen))  # fmt: skip
    return {"lines": len(run.ledger.lines)}


async def score(state: RunState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Score images against the brief. What cannot be scored gets a reason, never a zero."""
    run, brief = runtime.context, runtime.context.settings.brief
    drawn = [(c, found) for c in state.chosen if (found := run.ledger.rendered(c))]
    new = [(c, found) for c, found in drawn if not run.ledger.scored(c)]
    lines = [
        ScoredLine(at=run.seconds, round=state.round, candidate=c,
                   score=Score(reason=found.reason or "there is no image"))
        for c, found in new
        if not found.scorable
    ]  # fmt: skip
    images = [(c, path) for c, found in drawn if (path := found.scorable)]
    if waiting := [(c, path) for c, path in images if not run.ledger.scored(c)]:
        scores, each = await timed(run.tools.score, brief, [path for _, path in waiting])
        lines += [
            ScoredLine(at=run.seconds, round=state.round, candidate=c, score=s, seconds=each)
            for (c, _), s in zip(waiting, scores, strict=True)
        ]
    run.ledger.write(lines)
    for reason in dict.fromkeys(line.score.reason for line in lines if line.score.value is None):
        run.warn(f"an image is unscored: {reason}")
    await grade(run, state.round, images)
    trials = run.trials([c for c, _ in drawn])
    run.emit(e.CandidatesScored, round=state.round, trials=trials)
    ends = len(drawn) < len(state.chosen) or any(map(run.reached, trials))
    ends = ends or bool(run.scorer_failed(state.round + 1))
    following: Next = "reflect" if ends or not _waiting(run, state.alive) else "select"
    return {"lines": len(run.ledger.lines), "next": following}


async def reflect(state: RunState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Keep the best, compare predictions with scores, and decide what the next round does."""
    run, following = runtime.context, state.round + 1
    best = policy.best_of(run.ledger.trials(before=following))
    reason: e.StopReason | None = None
    decision: e.Decision = "stop"
    changed: dict[str, Any] = {}
    if best and run.reached(best):
        reason = "target reached"
    elif failed := run.scorer_failed(following):
        reason = "scorer failed"
        run.warn(failed)
    elif not run.pays_for_a_round(state.round):
        reason = "budget spent"
    else:
        reason, decision, changed = await asyncio.to_thread(_next_round, run, following, best)
    trust = run.trust(following)
    if trust.broken:
        run.warn(f"the probe is not trusted here: {trust.broken}; previews decide instead")
    if best:
        run.emit(e.RoundEnded, round=state.round, best=best, decision=decision, trust=trust)
    return {
        **changed,
        "best": best.candidate if best else None,
        "decision": decision,
        "stop_reason": reason,
        "round": state.round if reason else following,
        "next": "__end__" if reason else "propose",
    }


def onward(state: RunState) -> Next:
    """The next node, as the last one decided."""
    return state.next


# -- details -----------------------------------------------------------------------------------


def _next_round(
    run: Context, round: int, best: Trial | None
) -> tuple[e.StopReason | None, e.Decision, dict[str, Any]]:
    """A reason to stop, or what the round does and its schedule."""
    beliefs = run.beliefs(round)
    try:
        schedule = run.plan(beliefs, round)
    except ValueError:  # not enough seconds are left for a picture
        return "budget spent", "stop", {}
    known = planning.known_effects(beliefs, run.ledger.trials(before=round))
    value = best.value if best else None
    # A replayed run already has this round's rewrites, and may have no LLM call left.
    rewrites = run.rewrites or any(line.round == round for line in run.ledger.proposed)
    if known is None or value is None:
        return None, "rewrite" if rewrites else "reseed", {"schedule": schedule}
    offer = planning.decide(known, value, schedule, rewrites)
    if run.untried(round) and offer.action != "stop":
        return None, "rewrite", {"schedule": schedule}
    if offer.action == "stop":
        return "no improvement", "stop", {}
    prompts = (offer.prompt,) if offer.action == "reseed" and offer.prompt else ()
    return None, offer.action, {"schedule": schedule, "prompts": prompts}


def _select_in_waves(run: Context, state: RunState) -> dict[str, Any]:
    """A candidate whose chance is good enough to finish it now, or else whom to look at next."""
    if run.exhausted:
        return {"chosen": (), "next": "reflect"}
    schedule, waiting = state.planned, _waiting(run, state.alive)
    step = schedule.rungs[0].step
    seen = [one for one in waiting if run.ledger.probed(one, step)]
    beliefs, trials = run.beliefs(state.round), run.ledger.trials(before=state.round + 1)
    good = run.good
    assert good is not None, "waves are planned only where it is known"
    known = planning.chances_of(beliefs, trials, good)
    room = schedule.renders - (run.left(state.round - 1) - run.left(state.round))
    fresh = [one for one in waiting if one not in seen]
    looking, chosen = stopping.turn(schedule, {one: known[one] for one in seen}, fresh, room)
    if chosen:
        run.emit(e.CandidatesSelected, round=state.round, candidates=chosen)
    following: Next = "probe" if looking else "render" if chosen else "reflect"
    return {"looking": looking, "chosen": chosen, "next": following}


def _waiting(run: Context, alive: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Candidates that are not finished yet."""
    ledger = run.ledger
    return tuple(one for one in alive if not (ledger.scored(one) and ledger.rendered(one)))


def _warn_of_probed(run: Context, lines: Sequence[ProbedLine]) -> None:
    for line in lines:
        if line.probed.cut:
            words, prompt = ", ".join(line.probed.cut), line.candidate.prompt[:80]
            run.warn(f"the text encoder reads only the start of {prompt!r}: it never sees {words}")
        if line.probed.prediction is None:
            run.warn(f"a candidate has no early prediction: {line.probed.reason}")
        for notice in line.probed.notices:
            run.warn(notice)


def _forget_latents(run: Context, state: RunState) -> None:
    """Delete latents of earlier rounds and of dropped candidates, done according to the state."""
    alive = set(state.alive)
    for trial in run.ledger.trials(before=state.round + 1):
        if trial.candidate not in alive:
            for look in run.ledger.looks(trial.candidate):
                look.latents.unlink(missing_ok=True)
    for candidate in alive:  # only the last look's latents are needed
        for look in run.ledger.looks(candidate)[:-1]:
            look.latents.unlink(missing_ok=True)


# -- the graph ---------------------------------------------------------------------------------


@cache
def compiled() -> CompiledStateGraph[RunState, Context, RunState, RunState]:
    """The six nodes and the edges between them; a run takes a copy with its own checkpointer."""
    graph = StateGraph(RunState, context_schema=Context)
    graph.add_node("propose", propose)
    graph.add_node("probe", probe)
    graph.add_node("select", select)
    graph.add_node("render", render)
    graph.add_node("score", score)
    graph.add_node("reflect", reflect)

    graph.add_edge(START, "propose")
    graph.add_edge("propose", "probe")
    graph.add_edge("probe", "select")
    graph.add_conditional_edges("select", onward, ["probe", "render", "reflect"])
    graph.add_edge("render", "score")
    graph.add_conditional_edges("score", onward, ["select", "reflect"])
    graph.add_conditional_edges("reflect", onward, ["propose", END])
    return graph.compile()
