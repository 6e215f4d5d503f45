"""Where rewrites come from, and that the lexicon says the same thing in other words."""

from __future__ import annotations

import asyncio
from itertools import islice

import numpy as np
import pytest

from promptprobe.agent.given import choose_proposer
from promptprobe.agent.rewrite.proposers import (
    CallersPrompts,
    OfflineProposer,
    Proposals,
    Proposer,
    Request,
    Rewrite,
    SeedsOnly,
)
from promptprobe.tools.endpoint.endpoint import Reply
from promptprobe.tools.sprites import language
from promptprobe.tools.sprites.lexicon import in_common_words, wordings
from promptprobe.tools.sprites.plugin import check_rewrite as check
from promptprobe.tools.sprites.world import KINDS, scenes
from tests.agent.scripted import offline

BRIEF = "a scarlet kitty next to a navy automobile"


async def nobody(question: str, ask: object) -> Reply:
    raise AssertionError(f"an offline proposer asked {question}")


def offers(proposer: Proposer, **request: object) -> Proposals:
    asked = {"brief": BRIEF, "want": 3, "round": 1, "seed": 0, **request}
    return asyncio.run(proposer.propose(Request.model_validate(asked), nobody))


def test_the_lexicon_begins_with_common_plain_words() -> None:
    offered = offers(offline()).offered
    assert offered[0] == "a red cat next to a blue car"
    assert len(set(offered)) == 3
    assert all(in_common_words(prompt) == prompt for prompt in offered)


def test_every_wording_of_the_lexicon_passes_the_guard() -> None:
    rng = np.random.default_rng(0)
    for kind in KINDS:
        for scene in rng.choice(np.array(scenes(kind), dtype=object), 3):
            brief = language.word(scene, rng)
            for text in islice(wordings(brief, 1), 80):
                assert check(brief, text) == "", (brief, text)


def test_the_lexicon_depends_on_nothing_but_brief_and_seed() -> None:
    assert list(wordings(BRIEF, 3)) == list(wordings(BRIEF, 3)) != list(wordings(BRIEF, 4))


def test_the_lexicon_offers_nothing_twice_and_keeps_what_must_stay() -> None:
    first = offers(offline()).offered
    second = offers(offline(), tried=first).offered
    assert not set(first) & set(second)
    kept = offers(offline(), keep=("scarlet",), want=2).offered
    assert kept
    assert all("scarlet" in prompt for prompt in kept)


def test_unknown_words_stay_where_they_are() -> None:
    assert list(wordings("an amber kitty and a dragon", 0)) == ["an orange cat and a dragon"]


def test_the_lexicon_says_plainly_that_it_is_no_llm() -> None:
    assert "no LLM" in offline().source


def test_the_callers_prompts_come_in_order_and_once() -> None:
    mine = CallersPrompts(("one", "two", "three"))
    assert offers(mine).offered == ("one", "two", "three")
    assert offers(mine, tried=("one",)).offered == ("two", "three")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, None, "enrich", "sprites"), OfflineProposer),
        ((None, None, "off", "sprites"), SeedsOnly),
        ((None, None, "enrich", "some/model"), SeedsOnly),
        ((None, ["a"], "enrich", "some/model"), CallersPrompts),
    ],
)
def test_who_rewrites_depends_on_what_was_given(
    given: tuple[None, list[str] | None, Rewrite, str], expected: type
) -> None:
    assert isinstance(choose_proposer(*given), expected)
