"""Chooses the prompts of a round that rewrites: the brief, the best so far, and new ones.

Their number follows from the schedule: a prompt without a candidate would be wasted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from langgraph.types import interrupt

from promptprobe.agent.events import Refusal
from promptprobe.agent.ledger import ApprovedLine, ProposedLine
from promptprobe.agent.rewrite.guard import check_read
from promptprobe.agent.rewrite.proposers import Proposals, Request
from promptprobe.agent.rewrite.review import answered, review
from promptprobe.agent.search import planning, policy
from promptprobe.agent.search.schedule import Schedule
from promptprobe.tools.collect.prompts import content_of
from promptprobe.tools.prompt_files import foreign_syntax

if TYPE_CHECKING:
    from promptprobe.agent.context import Context


async def rewritten(
    run: Context, round: int, best: str | None, schedule: Schedule, before: Sequence[Refusal]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Refusal, ...]]:
    """The brief, the best prompt so far, then new ones; if too few are offered, the best prompts
    of earlier rounds fill the gaps.

    Args:
        best: the prompt of the best picture so far.
        before: what earlier rounds refused.

    Returns:
        All prompts of the round, the new ones among them, and what was refused now.
    """
    settings, earlier = run.settings, run.ledger.trials(before=round)
    usual = max(planning.PROMPTS, 1 + len(run.untried(round)))
    most = min(settings.budget.prompts or usual, schedule.candidates)
    carried = dict.fromkeys([settings.brief, *([best] if best else [])])
    kept = tuple(carried)[: max(1, most - 1)]
    ranked = policy.ranked_prompts(earlier)
    request = Request(
        brief=settings.brief, want=most - len(kept), round=round, seed=settings.seed,
        keep=settings.keep, rewrite=settings.rewrite, pipeline=settings.pipeline,
        rounds_left=run.last_round(round) - round, refused=tuple(before),
        tried=ranked, trials=earlier, unread=run.ledger.unread,
    )  # fmt: skip
    if not request.want:
        return kept, (), ()
    proposals = await _readable(run, await run.proposer.propose(request, run.recall))
    accepted, refused = _admit(request, proposals)
    run.ledger.write(
        [ProposedLine(at=run.seconds, round=round, accepted=accepted, refused=refused)]
    )
    _warn_of(run, proposals, refused)
    return tuple(dict.fromkeys([*kept, *accepted, *ranked]))[:most], accepted, refused


def approved(
    run: Context, round: int, prompts: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[Refusal, ...]]:
    """A round's prompts, and those that a person refused, if one is asked.

    Warns of prompts in the syntax of other programs, whoever wrote them.

    The interrupt leaves the graph until the runner resumes it with the answer; the ledger keeps it.
    """
    line = run.ledger.approved(round)
    if line is None and run.person.approve is not None:
        earlier = run.ledger.trials(before=round)
        known = {run.settings.brief, *(trial.candidate.prompt for trial in earlier)}
        if new := [prompt for prompt in prompts if prompt not in known]:
            shown = review(round, run.settings.brief, new)
            kept, refused = answered(new, interrupt(shown.model_dump(mode="json")))
            left = [kept.get(p, p) for p in prompts if p in kept or p not in new]
            line = ApprovedLine(at=run.seconds, round=round,
                                prompts=tuple(dict.fromkeys(left)), refused=refused)  # fmt: skip
            run.ledger.write([line])
    final, refused = (line.prompts, line.refused) if line else (prompts, ())
    for notice in filter(None, map(foreign_syntax, final)):
        run.warn(notice)
    return final, refused


async def _readable(run: Context, proposals: Proposals) -> Proposals:
    """Drop offers in which something required lies beyond the text encoder's token limit."""
    offered = [prompt for prompt in proposals.offered if prompt in proposals.meets]
    unread = await asyncio.to_thread(run.tools.unread, offered) if offered else []
    checked = zip(offered, unread, strict=True)
    reasons = {p: check_read(proposals.meets[p], p, words) for p, words in checked}
    lost = [Refusal(prompt=p[:400], reason=reason) for p, reason in reasons.items() if reason]
    kept = tuple(prompt for prompt in proposals.offered if not reasons.get(prompt))
    return proposals.model_copy(update={"offered": kept, "refused": (*proposals.refused, *lost)})


def _admit(request: Request, proposals: Proposals) -> tuple[tuple[str, ...], tuple[Refusal, ...]]:
    """The first offers that are new, and what was refused."""
    known = {content_of(prompt) for prompt in (request.brief, *request.tried)}
    before = {content_of(one.prompt) for one in request.refused}
    accepted: list[str] = []
    refused = list(proposals.refused)
    for offer in proposals.offered:
        if len(accepted) == request.want:
            break
        if content_of(offer) in known:
            refused.append(Refusal(prompt=offer[:400], reason="it was tried already"))
        elif content_of(offer) in before:
            refused.append(Refusal(prompt=offer[:400], reason="it was refused before"))
        else:
            known.add(content_of(offer))
            accepted.append(offer.strip())
    return tuple(accepted), tuple(refused)


def _warn_of(run: Context, proposals: Proposals, refused: Sequence[Refusal]) -> None:
    for message in proposals.warnings:
        run.warn(message)
    for refusal in refused:
        run.warn(f"refused {refusal.prompt[:80]!r}: {refusal.reason}")
