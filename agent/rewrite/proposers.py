"""Proposers of rewrites: an LLM, the caller, the model's own rewriter, or none.

An offered prompt means the same as the brief as far as its proposer can tell; the probe decides
whether it is any good. A caller's own prompts are never refused for their meaning.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import Field

from promptprobe.agent.events import Refusal
from promptprobe.agent.rewrite.facts import check_facts
from promptprobe.tools.endpoint.endpoint import Reply
from promptprobe.tools.records import Record, Trial

Rewrite = Literal["off", "faithful", "enrich"]
"""No rewrites, other words for the same, or more detail that contradicts nothing."""
Recall = Callable[[str, Callable[[], Awaitable[Reply]]], Awaitable[Reply]]
"""Answers a question from the ledger; asks a new one and records the reply before returning it."""


class Request(Record):
    """Everything that a proposer may know."""

    brief: str
    want: int
    round: int
    seed: int
    keep: tuple[str, ...] = ()
    rewrite: Rewrite = "enrich"
    pipeline: str = ""
    """Class name of the image model's pipeline, which determines what its text encoder reads."""
    rounds_left: int = 0
    tried: tuple[str, ...] = ()
    trials: tuple[Trial, ...] = ()
    unread: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Words of tried prompts beyond the text encoder's token limit, by prompt."""
    refused: tuple[Refusal, ...] = ()


class Proposals(Record):
    """The offered prompts, best first, and those that the proposer itself refused."""

    offered: tuple[str, ...] = ()
    meets: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """For each prompt, its phrases that meet the brief's requirements, if the proposer knows."""
    refused: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()


class Proposer(Protocol):
    """Offers about `want` new prompts, at most a few more."""

    @property
    def source(self) -> str:
        """What rewrites, in plain words."""

    async def propose(self, request: Request, recall: Recall) -> Proposals:
        """New prompts for the brief."""


@dataclass(frozen=True)
class SeedsOnly:
    """A proposer that offers nothing."""

    source: str

    async def propose(self, request: Request, recall: Recall) -> Proposals:
        return Proposals()


@dataclass(frozen=True)
class CallersPrompts:
    """Offers the caller's own prompts in their order, each once."""

    prompts: tuple[str, ...]
    source: str = "your own prompts"

    async def propose(self, request: Request, recall: Recall) -> Proposals:
        gone = {*request.tried, *(refusal.prompt for refusal in request.refused)}
        changes = ((p, check_facts(request.brief, p, request.keep)) for p in self.prompts)
        return Proposals(
            offered=tuple(p for p in self.prompts if p not in gone),
            warnings=tuple(f"your prompt {p[:80]!r}: {found}" for p, found in changes if found),
        )


@dataclass(frozen=True)
class OfflineProposer:
    """A built-in model's own rewriter, which needs no LLM."""

    rewrites: Callable[[str, int], Iterator[str]]
    """Yields rewrites for a brief and a seed."""
    source: str

    async def propose(self, request: Request, recall: Recall) -> Proposals:
        known = set(request.tried)
        offered: list[str] = []
        for text in self.rewrites(request.brief, request.seed):
            if text not in known and all(kept in text for kept in request.keep):
                known.add(text)
                offered.append(text)
            if len(offered) == request.want:
                break
        return Proposals(offered=tuple(offered))
