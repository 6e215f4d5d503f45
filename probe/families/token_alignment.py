"""Aligns tokens with words: content words with their tokens, and words cut off by the limit.

Words are found in the text, and tokens are assigned to them by their characters. So every tokenizer
gives the same words: CLIP's, T5's and those of language models, whose tokens begin with a space.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import regex
from jaxtyping import Float
from torch import Tensor

from promptprobe.probe.families.family import Conditioning, Span

FUNCTION_WORDS = frozenset(
    "a an the of and or with is are was were be being been it its it's this that these those there"
    " to for from as by at 's".split()
)
"""Words that stand for nothing in a picture. Positions (left, on, above, next) are content."""

_UNSPACED = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTER = rf"[[\p{{L}}\p{{N}}]--[\p{{Han}}\p{{Hiragana}}\p{{Katakana}}{_UNSPACED}]]\p{{M}}*"
WORD = regex.compile(
    rf"(?V1)(?:{_LETTER})+(?:['’](?:{_LETTER})+)*"
    rf"|\p{{Han}}|\p{{Hiragana}}+|[\p{{Katakana}}ー]+|[{_UNSPACED}]\p{{M}}*"
)
"""Letters and digits with their combining marks, and inner apostrophes. In scripts without spaces,
a word is a Chinese character, a run of kana, or a Thai letter with its marks."""

CUT_OFF = regex.compile("truncated because|longer than the specified maximum sequence length")
"""Truncation warnings of diffusers and transformers: one a call and a prompt of the batch."""


@contextmanager
def without_truncation_warnings(pipeline: Any) -> Iterator[None]:
    """Silence the libraries' truncation warnings: `Conditioning.cut` has the words."""

    def keep(record: logging.LogRecord) -> bool:
        return not CUT_OFF.search(record.getMessage())

    with ExitStack() as restored:
        for name in (type(pipeline).__module__, "transformers.tokenization_utils_base"):
            logger = logging.getLogger(name)
            logger.addFilter(keep)
            restored.callback(logger.removeFilter, keep)
        yield


@dataclass(frozen=True)
class AlignedWords:
    """The words of one prompt among the tokens that the denoiser sees."""

    words: tuple[Span, ...]
    """Content words; all words, if the text has only function words."""
    cut: tuple[str, ...]
    """Words with a token beyond the limit."""


def align_words(
    tokenizer: Any,
    text: str,
    *,
    last: int,
    prompt: slice = slice(None),
    dropped: int = 0,
) -> AlignedWords:
    """Align the tokens of `text` with the words of the prompt within it.

    Args:
        tokenizer: a fast transformers tokenizer (it knows each token's characters).
        text: the tokenized text, including any template.
        last: the first index that is cut off or holds an end token.
        prompt: where the prompt is in `text`.
        dropped: number of tokens at the start that the denoiser never sees.
    """
    encoding = tokenizer(text, return_offsets_mapping=True, truncation=False, verbose=False)
    start, end, _ = prompt.indices(len(text))
    pieces = [
        (place - dropped, first, until)
        for place, (first, until) in enumerate(encoding["offset_mapping"])
        if first < until and first < end and until > start
    ]
    kept: list[Span] = []
    cut: list[str] = []
    for found in WORD.finditer(text, start, end):
        tokens = tuple(
            place for place, first, until in pieces if first < found.end() and until > found.start()
        )
        if tokens and tokens[-1] < last:
            kept.append(Span(found.group(), tokens))
        else:
            cut.append(found.group())
    content = tuple(span for span in kept if span.word.lower() not in FUNCTION_WORDS)
    return AlignedWords(content or tuple(kept), tuple(cut))


def align_in_chat(tokenizer: Any, prompt: str, *, last: int, thinking: bool) -> AlignedWords:
    """`align_words` for a prompt that is a user's message in the tokenizer's chat template."""

    def templated(content: str) -> str:
        text: str = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=thinking,
        )
        return text

    start = len(templated("\x00").split("\x00")[0])
    place = slice(start, start + len(prompt))
    return align_words(tokenizer, templated(prompt), last=last, prompt=place)


def behind(first: AlignedWords, second: AlignedWords, offset: int) -> AlignedWords:
    """Merge one prompt's words from two encoders; the second one's tokens start at `offset`.

    A word that both encoders read has the tokens of both; it is cut only if neither reads it.
    """
    moved = [Span(span.word, tuple(at + offset for at in span.tokens)) for span in second.words]
    more, fewer = sorted((list(first.words), moved), key=len, reverse=True)
    spans = [
        Span(span.word, tuple(sorted({*span.tokens, *other.tokens})))
        for span, other in zip(more, fewer, strict=False)
    ]
    return AlignedWords(
        (*spans, *more[len(fewer) :]),
        min(first.cut, second.cut, key=len),
    )


def conditioned(
    embeddings: Float[Tensor, "batch token dim"],
    located: Sequence[AlignedWords],
    cond: Mapping[str, Any],
    uncond: Mapping[str, Any] | None = None,
) -> Conditioning:
    """A `Conditioning` with the aligned words of each prompt."""
    return Conditioning(
        embeddings,
        tuple(text.words for text in located),
        tuple(text.cut for text in located),
        cond,
        uncond,
    )
