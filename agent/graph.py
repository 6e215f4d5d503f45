"""The loop: propose -> probe -> select -> render -> score -> reflect, and again until it stops.

State is what changes: small records and prompts. What was paid for is in the ledger, which every
node asks first. Context is what does not change. LangGraph replays whole nodes after a kill, so a
node may run twice and must pay once. The edges are at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeVar

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from pydantic import BaseModel, ConfigDict

from promptprobe.agent import events as e
from promptprobe.agent import policy
from promptprobe.agent.context import Context
from promptprobe.agent.ledger import (
    ApprovedLine,
    ProbedLine,
    ProposedLine,
    RenderedLine,
    ScoredLine,
)
from promptprobe.agent.rewrite.guard import check_read
from promptprobe.agent.rewrite.proposers import Proposals, Request
from promptprobe.agent.rewrite.review import answered, review
from promptprobe.agent.run_folder import IMAGES, LATENTS
from promptprobe.tools.records import Candidate, Score

PROBE_BATCH, RENDER_BATCH = 16, 4
"""Candidates a call; what a kill repeats at most."""
T = TypeVar("T")


class RunState(BaseModel):
    """Where a run stands. Trials are not here: the ledger has them."""

    model_config = ConfigDict(extra="forbid")

    round: int = 0
    decision: e.Decision = "rewrite"
    prompts: tuple[str, ...] = ()
    refused: tuple[e.Refusal, ...] = ()
    chosen: tuple[Candidate, ...] = ()
    best: Candidate | None = None
    stale: int = 0
    stop_reason: e.StopReason | None = None
    lines: int = 0


SERIALIZED = (e.Refusal, Candidate)
"""All that a checkpoint may bring back to life."""


async def propose(state: RunState, runtime: Runtime[Context]) -> dict[str, Any]:
    """The prompts of a round: the brief, the best so far, then new rewrites or proven prompts."""
    run, settings = runtime.context, runtime.context.settings
    run.emit(e.RoundStarted, round=state.round, of=settings.budget.rounds)
    if state.round == 0:
        run.emit(e.PromptsProposed, round=0, prompts=(settings.brief,))
        return {"prompts": (settings.brief,)}
    earlier = run.ledger.trials(before=state.round)
    carried = dict.fromkeys([settings.brief, *([state.best.prompt] if state.best else [])])
    prompts = tuple(carried)[: settings.budget.prompts]
    want = settings.budget.prompts - len(prompts)
    accepted: tuple[str, ...] = ()
    refused = state.refused
    if want and state.decision == "rewrite":
        request = Request(
            brief=settings.brief, want=want, round=state.round, seed=settings.seed,
            keep=settings.keep, rewrite=settings.rewrite, pipeline=settings.pipeline,
            rounds_left=settings.budget.rounds - state.round, refused=state.refused,
            tried=policy.ranked_prompts(earlier), trials=earlier,
            unread=run.ledger.unread,
        )  # fmt: skip
        proposals = await _readable(run, await run.proposer.propose(request, run.recall))
        accepted, newly = _admit(request, proposals)
        refused = (*refused, *newly)
        run.ledger.write(
            [ProposedLine(at=run.seconds, round=state.round, accepted=accepted, refused=newly)]
        )
    prompts = tuple(dict.fromkeys([*prompts, *accepted, *policy.ranked_prompts(earlier)]))
    prompts = prompts[: settings.budget.prompts]
    run.emit(e.PromptsProposed, round=state.round, prompts=prompts, accepted=accepted,
             refused=refused[len(state.refused) :])  # fmt: skip
    if want and state.decision == "rewrite":
        _warn_of(run, proposals, refused[len(state.refused) :])
    return {"prompts": prompts, "refused": refused}


async def probe(state: RunState, runtime: Runtime[Context]) -> dict[str, Any]:
    """The first steps of every candidate, and what they foretell."""
    run = runtime.context
    prompts, declined = _approved(run, state)
    candidates = run.candidates(prompts, state.round)
    latents, done = run.ledger.run_dir / LATENTS, 0
    latents.mkdir(exist_ok=True)
    _forget_latents(run, state.round)
    for batch in _batches(candidates, PROBE_BATCH):
        new = [candidate for candidate in batch if not run.ledger.probed(candidate)]
        if new:
            probed = await asyncio.to_thread(run.tools.probe, run.settings.brief, new, latents)
            lines = [
                ProbedLine(at=run.seconds, round=state.round, candidate=c, probed=p)
                for c, p in zip(new, probed, strict=True)
            ]
            run.ledger.write(lines)
            _warn_of_probed(run, lines)
        done += len(batch)
        run.emit(e.CandidatesProbed, round=state.round, trials=run.trials(batch), done=done,
                 of=len(candidates))  # fmt: skip
    refused = (*state.refused, *declined)
    return {"prompts": prompts, "refused": refused, "lines": len(run.ledger.lines)}


async def select(state: RunState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Who deserves a full render."""
    run, settings = runtime.context, runtime.context.settings
    trials = run.trials(run.candidates(state.prompts, state.round))
    luck = policy.derive(settings.seed, "explore", state.round)
    chosen, explored = policy.select(trials, settings.budget.renders, luck)
    run.emit(e.CandidatesSelected, round=state.round, candidates=chosen, explored=explored)
    return {"chosen": chosen}


async def render(state: RunState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Survivors go on from their own latents; where those are gone, from the same noise."""
    run, images, done = runtime.context, runtime.context.ledger.run_dir / IMAGES, 0
    images.mkdir(exist_ok=True)
    for batch in _batches(state.chosen, RENDER_BATCH):
        new = [candidate for candidate in batch if not run.ledger.rendered(candidate)]
        if new:
            latents = [run.ledger.trial(candidate).latents for candidate in new]
            rendered = await asyncio.to_thread(run.tools.render, new, latents, images)
            run.ledger.write(
                [
                    RenderedLine(at=run.seconds, candidate=c, rendered=r)
                    for c, r in zip(new, rendered, strict=True)
                ]
            )
        done += len(batch)
        run.emit(e.CandidatesRendered, round=state.round, trials=run.trials(batch), done=done,
                 of=len(state.chosen))  # fmt: skip
    return {"lines": len(run.ledger.lines)}


async def score(state: RunState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Judge against the brief. What cannot be judged is unscored, with a reason, and never zero."""
    run, brief = runtime.context, runtime.context.settings.brief
    new = [candidate for candidate in state.chosen if not run.ledger.scored(candidate)]
    lines: list[ScoredLine] = []
    images = []
    for candidate in new:
        rendered = run.ledger.rendered(candidate)
        assert rendered is not None, "render comes before score"
        if rendered.image is not None and not rendered.reason:
            images.append((candidate, rendered.image))
        else:
            unscored = Score(reason=rendered.reason or "there is no image")
            lines.append(
                ScoredLine(at=run.seconds, candidate=candidate, score=unscored, judge=unscored)
            )
    if images:
        paths = [path for _, path in images]
        scores = await asyncio.to_thread(run.tools.score, brief, paths)
        judges = await asyncio.to_thread(run.tools.judge, brief, paths)
        lines += [
            ScoredLine(at=run.seconds, candidate=candidate, score=s, judge=j)
            for (candidate, _), s, j in zip(images, scores, judges, strict=True)
        ]
    run.ledger.write(lines)
    for reason in dict.fromkeys(line.score.reason for line in lines if line.score.value is None):
        run.warn(f"an image is unscored: {reason}")
    run.emit(e.CandidatesScored, round=state.round, trials=run.trials(state.chosen))
    return {"lines": len(run.ledger.lines)}


async def reflect(state: RunState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Keep the best, audit the predictions, decide: rewrite, reseed or stop."""
    run, settings = runtime.context, runtime.context.settings
    trials = run.ledger.trials(before=state.round + 1)
    best = policy.best_of(trials)
    stale = 0 if best and best.candidate != state.best else state.stale + 1
    reason = policy.stop(best, state.round, settings.budget, stale)
    this_round = run.trials(run.candidates(state.prompts, state.round))
    decision: e.Decision = "stop" if reason else policy.rewrite_or_reseed(this_round)
    if best:
        run.emit(e.RoundEnded, round=state.round, best=best, decision=decision,
                 audit=policy.audit(run.trials(state.chosen)))  # fmt: skip
    return {
        "best": best.candidate if best else None,
        "stale": stale,
        "decision": decision,
        "stop_reason": reason,
        "round": state.round if reason else state.round + 1,
    }


def after_reflection(state: RunState) -> Literal["propose", "__end__"]:
    return "__end__" if state.stop_reason else "propose"


# -- details -----------------------------------------------------------------------------------


def _approved(run: Context, state: RunState) -> tuple[tuple[str, ...], tuple[e.Refusal, ...]]:
    """A round's prompts, and what a person refused of them, where one is asked.

    The interrupt leaves the graph until the runner brings the answer, which the ledger keeps.
    """
    line = run.ledger.approved(state.round)
    if line is None and run.approve is not None:
        earlier = run.ledger.trials(before=state.round)
        known = {run.settings.brief, *(trial.candidate.prompt for trial in earlier)}
        if new := [prompt for prompt in state.prompts if prompt not in known]:
            shown = review(state.round, run.settings.brief, new)
            kept, refused = answered(new, interrupt(shown.model_dump(mode="json")))
            said = [kept.get(p, p) for p in state.prompts if p in kept or p not in new]
            line = ApprovedLine(at=run.seconds, round=state.round,
                                prompts=tuple(dict.fromkeys(said)), refused=refused)  # fmt: skip
            run.ledger.write([line])
    return (line.prompts, line.refused) if line else (state.prompts, ())


async def _readable(run: Context, proposals: Proposals) -> Proposals:
    """Without the offers in which what was asked for stands beyond the text encoder's limit."""
    offered = [prompt for prompt in proposals.offered if prompt in proposals.meets]
    unread = await asyncio.to_thread(run.tools.unread, offered) if offered else []
    checked = zip(offered, unread, strict=True)
    reasons = {p: check_read(proposals.meets[p], p, words) for p, words in checked}
    lost = [e.Refusal(prompt=p[:400], reason=reason) for p, reason in reasons.items() if reason]
    kept = tuple(prompt for prompt in proposals.offered if not reasons.get(prompt))
    return proposals.model_copy(update={"offered": kept, "refused": (*proposals.refused, *lost)})


def _admit(request: Request, proposals: Proposals) -> tuple[tuple[str, ...], tuple[e.Refusal, ...]]:
    """The first offers that are new, and what was refused."""
    known = {_same(prompt) for prompt in (request.brief, *request.tried)}
    before = {_same(one.prompt) for one in request.refused}
    accepted: list[str] = []
    refused = list(proposals.refused)
    for offer in proposals.offered:
        if len(accepted) == request.want:
            break
        if _same(offer) in known:
            refused.append(e.Refusal(prompt=offer[:400], reason="it was tried already"))
        elif _same(offer) in before:
            refused.append(e.Refusal(prompt=offer[:400], reason="it was refused before"))
        else:
            known.add(_same(offer))
            accepted.append(offer.strip())
    return tuple(accepted), tuple(refused)


def _same(prompt: str) -> str:
    return " ".join(prompt.casefold().split())


def _warn_of(run: Context, proposals: Proposals, refused: Sequence[e.Refusal]) -> None:
    for message in proposals.warnings:
        run.warn(message)
    for refusal in refused:
        run.warn(f"refused {refusal.prompt[:80]!r}: {refusal.reason}")


def _warn_of_probed(run: Context, lines: Sequence[ProbedLine]) -> None:
    for line in lines:
        if line.probed.cut:
            words, prompt = ", ".join(line.probed.cut), line.candidate.prompt[:80]
            run.warn(f"the text encoder reads only the start of {prompt!r}: it never sees {words}")
        if line.probed.prediction is None:
            run.warn(f"a candidate is not judged early: {line.probed.reason}")


def _forget_latents(run: Context, before: int) -> None:
    """Delete the latents of earlier rounds, now that the checkpoint says that they are over."""
    for trial in run.ledger.trials(before=before):
        if trial.latents is not None:
            trial.latents.unlink(missing_ok=True)


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


# -- the graph ---------------------------------------------------------------------------------


def build() -> StateGraph[RunState, Context, RunState, RunState]:
    """The six nodes and how they follow each other."""
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
    graph.add_edge("select", "render")
    graph.add_edge("render", "score")
    graph.add_edge("score", "reflect")
    graph.add_conditional_edges("reflect", after_reflection, {"propose": "propose", "__end__": END})
    return graph
