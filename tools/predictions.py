"""What the first steps foretell: by a trained probe, or by looking at a preview.

The preview is the scorer's view of the predicted x0, decoded. Nothing has calibrated it, and its
`basis` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image

from promptprobe.probe.card import Probe, ProbeError, check, facts_of, load_probe
from promptprobe.probe.family import Family, Settings
from promptprobe.probe.trace import Trace, word_focus
from promptprobe.tools.records import Prediction, Word
from promptprobe.tools.scorers import Scorer

NOT_FINITE = (
    "the model produced numbers that are not finite, so there is no image; "
    'dtype "float32" often helps'
)


@dataclass(frozen=True)
class Foretold:
    """A prediction, or None and the reason."""

    prediction: Prediction | None
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
    views = _by_probe(probe, trace) if probe else _by_preview(family, scorer, brief, trace)
    return [
        view if fine else Foretold(None, NOT_FINITE)
        for view, fine in zip(views, finite.tolist(), strict=True)
    ]


def _by_probe(probe: Probe, trace: Trace) -> list[Foretold]:
    return [
        Foretold(
            Prediction(
                score=found.score, low=found.low, high=found.high, basis="probe", words=words
            )
        )
        for found, words in zip(probe.predict(trace), focused_words(trace), strict=True)
    ]


def _by_preview(family: Family, scorer: Scorer, brief: str, trace: Trace) -> list[Foretold]:
    images = [Image.fromarray(pixels) for pixels in family.decode(trace.x0)]
    return [
        Foretold(None, f"the preview was not scored: {score.reason}")
        if score.value is None
        else Foretold(
            Prediction(
                score=score.value, basis="preview", explanation=score.explanation, words=words
            )
        )
        for score, words in zip(scorer(brief, images), focused_words(trace), strict=True)
    ]


def focused_words(trace: Trace) -> Sequence[tuple[Word, ...]]:
    """How settled the attention of each content word is, per candidate."""
    return [
        tuple(
            Word(word=word, focus=min(1.0, max(0.0, value)))
            for word, value in zip(words, row[: len(words)], strict=True)
        )
        for words, row in zip(trace.words, word_focus(trace).tolist(), strict=True)
    ]
