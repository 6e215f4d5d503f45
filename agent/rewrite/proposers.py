"""Where rewrites come from: an LLM, the caller, the model's own rewriter, or nowhere.

What is offered means the brief, as far as its proposer can tell; whether it is any good is the
probe's word. Of a caller's own prompts nothing is refused for its meaning.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import Field

from promptprobe.agent.events import Refusal
from promptprobe.agent.rewrite.facts import check_facts
from promptprobe.agent.rewrite.guard import no_reading
from promptprobe.tools.endpoint.endpoint import LLM, Endpoint, Reply
from promptprobe.tools.endpoint.local_endpoint import PREFIX, LocalEndpoint
from promptprobe.tools.models.built_in import built_in
from promptprobe.tools.records import Record, Trial

Rewrite = Literal["off", "faithful", "enrich"]
"""Nothing, other words for the same, or more detail that contradicts nothing."""
Recall = Callable[[str, Callable[[], Awaitable[Reply]]], Awaitable[Reply]]
"""Answers a question from the ledger; where it is new, asks and writes the reply down first."""


class Request(Record):
    """What a proposer may know."""

    brief: str
    want: int
    round: int
    seed: int
    keep: tuple[str, ...] = ()
    rewrite: Rewrite = "enrich"
    pipeline: str = ""
    """Class name of the image model's pipeline, which tells what its text encoder reads."""
    rounds_left: int = 0
    tried: tuple[str, ...] = ()
    trials: tuple[Trial, ...] = ()
    unread: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Words of tried prompts beyond the text encoder's token limit, by prompt."""
    refused: tuple[Refusal, ...] = ()


class Proposals(Record):
    """What is offered, best first, and what was thrown out on the way."""

    offered: tuple[str, ...] = ()
    meets: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """By prompt, its phrases that say what the brief asks for, where the proposer knows."""
    refused: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()


class Proposer(Protocol):
    """Offers at most a few more prompts than `want`, none of them tried."""

    @property
    def source(self) -> str:
        """Who rewrites, said plainly."""

    async def propose(self, request: Request, recall: Recall) -> Proposals:
        """New prompts for the brief."""


def choose_proposer(
    llm: LLM | None, prompts: Sequence[str] | None, rewrite: Rewrite, model: str
) -> Proposer:
    """The caller's own prompts first, then an LLM, then what the model allows.

    Raises:
        ValueError: both were given, or the LLM's endpoint is not set up.
    """
    if llm and rewrite == "off":
        raise ValueError('rewrite="off" and llm=... contradict each other: give one of them')
    if llm and prompts:
        raise ValueError("llm and prompts were both given: either an LLM rewrites, or you do")
    own = built_in(model)
    if prompts:
        return CallersPrompts(tuple(prompts))
    if rewrite == "off":
        return SeedsOnly("rewriting is off: only seeds are searched")
    if llm:
        from promptprobe.agent.rewrite.llm import LlmProposer

        endpoint = LocalEndpoint(llm) if llm.model.startswith(PREFIX) else Endpoint(llm)
        endpoint.check()
        return LlmProposer(endpoint, own.check_rewrite if own else no_reading)
    if own:
        return OfflineProposer(own.rewrites, own.rewriter)
    return SeedsOnly(
        "no LLM and no prompts were given, so only seeds are searched: "
        "set llm=NAME or prompts=[...] to have rewrites tried"
    )


@dataclass(frozen=True)
class SeedsOnly:
    """Nobody rewrites."""

    source: str

    async def propose(self, request: Request, recall: Recall) -> Proposals:
        return Proposals()


@dataclass(frozen=True)
class CallersPrompts:
    """The caller is the LLM: its prompts in its order, each offered once."""

    prompts: tuple[str, ...]
    source: str = "your own prompts"

    async def propose(self, request: Request, recall: Recall) -> Proposals:
        gone = {*request.tried, *(refusal.prompt for refusal in request.refused)}
        changes = ((p, check_facts(request.brief, p, request.keep)) for p in self.prompts)
        return Proposals(
            offered=tuple(p for p in self.prompts if p not in gone),
            warnings=tuple(f"of your prompt {p[:80]!r}: {found}" for p, found in changes if found),
        )


@dataclass(frozen=True)
class OfflineProposer:
    """A built-in model's own rewriter, which needs no LLM."""

    rewrites: Callable[[str, int], Iterator[str]]
    """From brief and seed."""
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
