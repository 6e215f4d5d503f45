"""Combines several scorers: each value is scaled by its judge's usual range, and averaged.

The ranges are fixed in the table of judges, so that a picture's score does not depend on other
pictures and a resumed run scores as before. A picture that one of them cannot score is unscored:
the mean of the others would not be comparable.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from promptprobe.tools.records import Score, Verdict
from promptprobe.tools.scorers.table import UNIT, Opened

if TYPE_CHECKING:
    from promptprobe.tools.scorers.scorer import Scorer
    from promptprobe.tools.scorers.table import Pictures

MOST_WORDS = 200
"""Maximum number of words in a `Score`."""
ROUNDING = 1e-6
"""How far beyond 0 or 1 a mean of float32 may be because of rounding."""


def combined(parts: Sequence[Scorer]) -> Opened:
    """The mean of several judges, whose names differ."""

    def score(brief: str, images: Pictures) -> list[Score]:
        found = [part(brief, images) for part in parts]
        return [_joined(brief, parts, scores) for scores in zip(*found, strict=True)]

    return Opened(score, may_decline=True, tried_on=max(part.tried_on for part in parts))


def _joined(brief: str, parts: Sequence[Scorer], scores: Sequence[Score]) -> Score:
    """The combined score of one picture."""
    shares: list[float] = []
    explanations: list[str] = []
    for part, score in zip(parts, scores, strict=True):
        if score.value is None:
            reason = score.reason if part.name in score.reason else f"{part.name}: {score.reason}"
            return Score(reason=reason, failed=score.failed)
        low, high = part.usual
        share = (score.value - low) / (high - low)
        if part.usual == UNIT and not -ROUNDING <= share <= 1 + ROUNDING:
            return Score(
                reason=f"{part.name} gave {score.value:.4g}, but when scorers are combined your "
                "own judge must return 0 to 1: divide its result by its range",
                failed=True,
            )
        shares.append(share)
        placed = "" if part.usual == UNIT else f", {share:.2f} of {low:g} to {high:g}"
        why = f" ({score.explanation})" if score.explanation else ""
        explanations.append(f"{part.name} {score.value:.4g}{placed}{why}")
    verdicts = [score.correct for score in scores]
    return Score(
        value=sum(shares) / len(shares),
        # None if any is None: a picture that OCR calls correct may still look better.
        correct=None if None in verdicts else all(verdicts),
        explanation="; ".join(explanations),
        extras=max(score.extras for score in scores),
        words=_words(brief, scores),
    )


def _words(brief: str, scores: Sequence[Score]) -> tuple[Verdict, ...]:
    """All words in the brief's order; of two verdicts on the same word, the stricter one."""
    found: dict[tuple[str, int], Verdict] = {}
    for score in scores:
        times: Counter[str] = Counter()
        for verdict in score.words:
            word = verdict.word.casefold()
            place = word, times[word]
            times[word] += 1
            if known := found.get(place):
                strict = {
                    "ok": known.ok and verdict.ok,
                    "chance": min(known.chance, verdict.chance),
                }
                found[place] = known.model_copy(update=strict)
            else:
                found[place] = verdict
    text = brief.casefold()
    ordered = sorted(found, key=lambda place: _position(text, *place))
    return tuple(found[place] for place in ordered)[:MOST_WORDS]


def _position(text: str, word: str, earlier: int) -> int:
    """Position of a word in a text after `earlier` occurrences; the end if it is not there."""
    places = [match.start() for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text)]
    return places[earlier] if earlier < len(places) else len(text)
