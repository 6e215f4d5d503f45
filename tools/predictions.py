"""What the first steps foretell: the scorer looks at the decoded x0, a trained probe beyond it.

Without a probe the preview's score is all there is. Nothing has calibrated it, and its `basis`
says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from promptprobe.probe.card import Probe, ProbeError, check, facts_of, load_probe
from promptprobe.probe.family import Family, Settings
from promptprobe.probe.trace import Trace, word_focus
from promptprobe.tools.records import Prediction, Score, Word
from promptprobe.tools.scorers import Scorer

NOT_FINITE = (
    "the model produced numbers that are not finite, so there is no image; "
    'dtype "float32" often helps'
)


@dataclass(frozen=True)
class Foretold:
    """A prediction, or None and the reason; and the decoded x0 that it is of."""

    prediction: Prediction | None
    preview: Image.Image
    reason: str = ""


def fitting_probe(
    folder: Path, family: Family, settings: Settings, k: int, scorer: Scorer, device: str
) -> Probe:
    """The probe of a folder, if it was made for this model, these settings and this scorer.

    Raises:
        ProbeError: it is missing, broken or made for others; names the two values that differ.
    """
    probe = load_probe(folder)
    check(probe.card, facts_of(family, settings, k))
    if probe.card.target != f"{scorer.name} score":
        raise ProbeError(
            f"this probe predicts the {probe.card.target!r}, and the scorer in use gives the "
            f"'{scorer.name} score'"
        )
    probe.network.to(device)
    return probe


def foretell(
    probe: Probe | None, family: Family, scorer: Scorer, brief: str, trace: Trace
) -> list[Foretold]:
    """One view a candidate of the trace."""
    finite = torch.isfinite(trace.x0).flatten(1).all(1)
    if not finite.all():  # the broken rows must not spoil the others
        rows = finite[:, None, None, None]
        trace = replace(
            trace,
            maps=trace.maps.nan_to_num(),
            x0=torch.where(rows, trace.x0, 0),
            gap=torch.where(rows, trace.gap, 0),
        )
    previews = [Image.fromarray(pixels) for pixels in family.decode(trace.x0)]
    scores = scorer(brief, previews)
    views = _views(probe, trace, scores)
    return [
        Foretold(None, preview, why)
        if (why := _unforetold(score, fine))
        else Foretold(Prediction(**view, explanation=score.explanation, words=words), preview)
        for view, preview, score, fine, words in zip(
            views, previews, scores, finite.tolist(), focused_words(trace), strict=True
        )
    ]


def _views(probe: Probe | None, trace: Trace, scores: Sequence[Score]) -> list[dict[str, Any]]:
    """What a prediction says in numbers, and on what basis; an unscored preview counts as zero."""
    seen = [score.value or 0.0 for score in scores]
    if probe is None:
        return [{"basis": "preview", "score": value} for value in seen]
    return [
        {"basis": "probe", "score": found.score, "low": found.low, "high": found.high}
        for found in probe.predict(trace, torch.tensor(seen))
    ]


def _unforetold(score: Score, fine: bool) -> str:
    """Why there is no prediction, or nothing."""
    if not fine:
        return NOT_FINITE
    return f"the preview was not scored: {score.reason}" if score.value is None else ""


def focused_words(trace: Trace) -> Sequence[tuple[Word, ...]]:
    """How settled the attention of each content word is, per candidate."""
    return [
        tuple(
            Word(word=word, focus=min(1.0, max(0.0, value)))
            for word, value in zip(words, row[: len(words)], strict=True)
        )
        for words, row in zip(trace.words, word_focus(trace).tolist(), strict=True)
    ]
