"""Which tokens are which words: content words with their places, and what the limit cuts off."""

from __future__ import annotations

from typing import Any

from promptprobe.probe.family import Span

FUNCTION_WORDS = frozenset(
    "a an the of and or with is are was were be being been it its it's this that these those there"
    " to for from as by at 's".split()
)
"""Words that stand for nothing in a picture. Places (left, on, above, next) are content."""


def find_words(tokenizer: Any, text: str) -> tuple[tuple[Span, ...], tuple[str, ...]]:
    """Content words within the tokenizer's limit, and all words that are cut off, in order.

    `tokenizer` is a fast transformers tokenizer that puts one special token at each end; a word
    of which any piece is cut counts as cut. A text of function words alone keeps them all.
    """
    encoding = tokenizer(text, return_offsets_mapping=True, truncation=False, verbose=False)
    places: dict[int, list[int]] = {}
    for place, word in enumerate(encoding.word_ids()):
        if word is not None:
            places.setdefault(word, []).append(place)
    last = tokenizer.model_max_length - 1
    kept: list[Span] = []
    cut: list[str] = []
    for tokens in places.values():
        offsets = [encoding["offset_mapping"][place] for place in tokens]
        word = text[offsets[0][0] : offsets[-1][1]].strip()
        if not any(character.isalnum() for character in word):
            continue
        if tokens[-1] < last:
            kept.append(Span(word, tuple(tokens)))
        else:
            cut.append(word)
    content = tuple(span for span in kept if span.word.lower() not in FUNCTION_WORDS)
    return content or tuple(kept), tuple(cut)
