"""Counts how many of an LLM's rewrites of many briefs are accepted, how many refused, and why.

No picture is made. Every brief gets the questions of a first round, through the same proposer and
checks as in a run.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from promptprobe.agent.given import choose_proposer
from promptprobe.agent.rewrite.llm import LlmProposer
from promptprobe.agent.rewrite.proposers import Request, Rewrite
from promptprobe.tools.collect.prompts import content_of
from promptprobe.tools.endpoint.endpoint import LLM, Reply
from promptprobe.tools.endpoint.local_endpoint import LocalEndpoint
from promptprobe.tools.prompt_files import read_prompt_file
from promptprobe.tools.records import MAX_TEXT

WANT = 3
"""Rewrites requested for each brief, as in a round of the light budget."""


def evaluate(
    llm: LLM, briefs: Path, rewrite: Rewrite, most: int | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Count what is offered, accepted and refused.

    Args:
        briefs: a file for `read_prompt_file`.
        most: maximum number of briefs, evenly spread over the file; None for all.
        say: called with a line of progress after each brief.

    Raises:
        ValueError: the file or the LLM cannot be used.
    """
    rows = [row for row in read_prompt_file(briefs) if not row.problem]
    taken = [row.prompt for row in rows if len(row.prompt) <= MAX_TEXT]
    taken = taken[:: max(1, len(taken) // most)][:most] if most else taken
    proposer = choose_proposer(llm, None, rewrite, "")
    assert isinstance(proposer, LlmProposer)
    if isinstance(proposer.endpoint, LocalEndpoint):
        proposer.endpoint.resident = True  # no image model needs the memory
    return asyncio.run(_evaluate(proposer, taken, rewrite, say))


async def _evaluate(
    proposer: LlmProposer, briefs: list[str], rewrite: Rewrite, say: Callable[[str], None]
) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    notices: Counter[str] = Counter()
    replies: list[Reply] = []
    rows: list[dict[str, Any]] = []

    async def recall(_question: str, ask: Callable[[], Awaitable[Reply]]) -> Reply:
        replies.append(await ask())
        return replies[-1]

    for number, brief in enumerate(briefs, 1):
        request = Request(brief=brief, want=WANT, round=1, seed=0, rewrite=rewrite, rounds_left=1)
        found = await proposer.propose(request, recall)
        repeats = sum(content_of(prompt) == content_of(brief) for prompt in found.offered)
        counts["accepted"] += len(found.offered) - repeats
        counts["refused"] += len(found.refused) + repeats
        counts["briefs with an accepted rewrite"] += len(found.offered) > repeats
        reasons.update(_kind(refusal.reason) for refusal in found.refused)
        reasons["it repeats the brief"] += repeats
        notices.update(_kind(notice.replace(proposer.source, "it")) for notice in found.warnings)
        rows.append({"brief": brief, **found.model_dump()})
        say(f"[{number}/{len(briefs)}] {brief[:60]}: {dict(counts)}")
    offered = counts["accepted"] + counts["refused"]
    return {
        "briefs": len(briefs),
        "offered": offered,
        **{name: counts[name] for name in ("accepted", "refused")},
        "briefs with an accepted rewrite": counts["briefs with an accepted rewrite"],
        "refused because": dict(_listed(reasons)),
        "notices": dict(_listed(notices)),
        "questions": len(replies),
        "tokens": sum(reply.tokens for reply in replies),
        "rows": rows,
    }


def lines(report: dict[str, Any]) -> Iterator[str]:
    """The report as text, without its rows."""
    for name, value in report.items():
        if isinstance(value, dict):
            yield f"{name}"
            yield from (f"  {count} {reason}" for reason, count in value.items())
        elif name != "rows":
            yield f"{name}: {value}"


def _kind(reason: str) -> str:
    """A reason without quotations and numbers, so that similar ones count together."""
    kind = re.sub(r"'.*'|\".*\"", "...", reason.partition(": ")[0], flags=re.DOTALL)
    return re.sub(r"\d+", "N", kind)[:100]


def _listed(counted: Counter[str]) -> Iterator[tuple[str, int]]:
    return ((name, count) for name, count in counted.most_common(20) if count)
