"""Where rewrites come from: an LLM, the caller, the lexicon of Sprites, or nowhere, said aloud.

A proposer only offers. Whether an offer still means the brief is the guard's word, and whether it
is any good is the probe's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from promptprobe.agent.events import Refusal
from promptprobe.agent.rewrite.endpoint import LLM, Endpoint, Reply
from promptprobe.tools.records import Record, Trial
from promptprobe.tools.sprites import MODELS, language

Recall = Callable[[str, Callable[[], Awaitable[Reply]]], Awaitable[Reply]]
"""Answers a question from the ledger; where it is new, asks and writes the reply down first."""


class Request(Record):
    """What a proposer may know."""

    brief: str
    want: int
    round: int
    seed: int
    keep: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()
    trials: tuple[Trial, ...] = ()
    refused: tuple[Refusal, ...] = ()


class Proposals(Record):
    """What is offered, best first, and what was thrown out on the way."""

    offered: tuple[str, ...] = ()
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
    llm: LLM | None, prompts: Sequence[str] | None, rewrite: bool, model: str
) -> Proposer:
    """The caller's own prompts first, then an LLM, then what the model allows.

    Raises:
        ValueError: both were given, or the LLM's endpoint is not set up.
    """
    if llm and not rewrite:
        raise ValueError('rewrite="off" and llm=... contradict each other: give one of them')
    if llm and prompts:
        raise ValueError("llm and prompts were both given: either an LLM rewrites, or you do")
    if prompts:
        return CallersPrompts(tuple(prompts))
    if not rewrite:
        return SeedsOnly("rewriting is off: only seeds are searched")
    if llm:
        from promptprobe.agent.rewrite.llm import LlmProposer

        endpoint = Endpoint(llm)
        endpoint.check()
        return LlmProposer(endpoint)
    if model in MODELS:
        return LexiconProposer()
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
        return Proposals(offered=tuple(p for p in self.prompts if p not in gone))


@dataclass(frozen=True)
class LexiconProposer:
    """Sprites without an LLM: the scene of the brief, said in the words that training saw most.

    Plain common wording first, then other plain frames, then casual and ornate ones.
    """

    source: str = "the offline lexicon of Sprites (rules and word lists, no LLM)"

    async def propose(self, request: Request, recall: Recall) -> Proposals:
        known = set(request.tried)
        offered: list[str] = []
        for text in wordings(request.brief, request.seed):
            if text not in known and all(kept in text for kept in request.keep):
                known.add(text)
                offered.append(text)
            if len(offered) == request.want:
                break
        return Proposals(offered=tuple(offered))


def wordings(brief: str, seed: int) -> Iterator[str]:
    """Ways to say a Sprites brief; repeats itself, ends, and is the same for the same arguments."""
    import numpy as np

    reading = language.read(brief)
    yield in_common_words(brief)
    if reading.scene is None or reading.unknown:
        return  # what cannot be read cannot be said otherwise
    digest = hashlib.sha256(f"wordings|{seed}|{brief}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:7]))
    plain = [language.word(reading.scene, rng, "plain") for _ in range(64)]
    yield from sorted(plain, key=lambda text: (in_common_words(text) != text, len(text)))
    for _ in range(32):
        yield language.word(reading.scene, rng, "casual")
        yield language.word(reading.scene, rng, "ornate")


def in_common_words(text: str) -> str:
    """The same text with each rare noun or colour replaced by its common word."""
    for names in (*language.NOUN_WORDS.values(), *language.COLOUR_WORDS.values()):
        for name in names[1:]:
            text = re.sub(rf"\b(an? )?{name}\b", rf"\1{names[0]}", text, flags=re.IGNORECASE)
            plural = language.plural(name)
            text = re.sub(rf"\b{plural}\b", language.plural(names[0]), text, flags=re.IGNORECASE)
    return re.sub(r"\b([Aa])n?(?= ([^\W\d_])\w*)", _article, text)


def _article(found: re.Match[str]) -> str:
    return found[1] + ("n" if found[2].lower() in "aeiou" else "")
