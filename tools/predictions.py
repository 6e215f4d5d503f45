"""Predictions from the first steps: the scorer looks at the decoded x0, a trained probe at more.

Without a probe there is only the preview's score, which is uncalibrated, as its `basis` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from promptprobe.probe.families.family import Family, Settings
from promptprobe.probe.model.card import PREVIEW_RANK, RANK, check, model_spec_of
from promptprobe.probe.model.checkpoint import Probe, load_probe
from promptprobe.probe.model.network import PreviewScore
from promptprobe.probe.trace import Trace, word_focus
from promptprobe.probe.training.shards import PreviewScores, padded
from promptprobe.tools.records import Prediction, Score, Verdict, Word
from promptprobe.tools.scorers.scorer import Scorer
from promptprobe.tools.scorers.table import target_of

NOT_FINITE = (
    "the model produced numbers that are not finite, so there is no image; "
    'dtype "float32" often helps'
)


@dataclass(frozen=True)
class Preview:
    """A prediction, or None and the reason, with the decoded x0."""

    prediction: Prediction | None
    preview: Image.Image
    reason: str = ""


@dataclass(frozen=True)
class LoadedProbe:
    """A probe that fits the current model and settings, and where to use it."""

    probe: Probe
    windows: Mapping[int, int]
    """The card's window to use, by the current number of steps."""
    ranks: Mapping[int, float]
    """Share of a prompt's pairs of seeds that a look puts in the right order, by that number."""
    preview_ranks: Mapping[int, float]
    """The same share for previews alone, on the same prompts."""
    target: int
    judged: bool
    """Whether the current scorer is the one whose preview scores the probe was trained on."""
    left: tuple[int, ...] = ()
    """Numbers of steps after which the preview is used, since the probe was not found better."""

    @property
    def note(self) -> str:
        """A notice of steps at which the probe is not used; empty if there are none."""
        if not self.left:
            return ""
        left, used = (", ".join(map(str, steps)) for steps in (self.left, self.windows))
        rest = f"; the probe is used after {used}" if used else ""
        return (
            f"the probe was not found better than the preview after {left} steps, so previews are "
            f"used there{rest} (promptprobe probes show)"
        )


def load_matching_probe(
    folder: Path, family: Family, settings: Settings, scorer: Scorer, device: str
) -> LoadedProbe:
    """Load the probe in a folder, if it is valid for this model, these settings and this scorer.

    At a step where the probe was not found better than the preview, the preview is used.

    Raises:
        ProbeError: it is missing, broken, or made for something else (names the values that
            differ).
    """
    probe = load_probe(folder)
    facts = model_spec_of(family, settings)
    check(probe.card, facts)
    target = probe.target(name := target_of(scorer.name))
    probe.network.to(device)
    windows = probe.card.windows_here(facts)
    steps = {k: probe.card.windows[probe.card.place(window)] for k, window in windows.items()}
    used = {k: windows[k] for k, step in steps.items() if step.beats_preview(name)}
    figures = {k: step.figures.get(name, {}) for k, step in steps.items()}
    previews = {k: found[PREVIEW_RANK] for k, found in figures.items() if PREVIEW_RANK in found}
    ranks = {k: found[RANK] for k, found in figures.items() if k in used and RANK in found}
    ranks |= {k: rank for k, rank in previews.items() if k not in used}
    left = tuple(k for k in steps if k not in used)
    return LoadedProbe(probe, used, ranks, previews, target, target == 0, left)


def predict(
    fitting: LoadedProbe | None,
    family: Family,
    scorer: Scorer,
    brief: str,
    prompts: Sequence[str],
    trace: Trace,
    step: int,
) -> list[Preview]:
    """One prediction per candidate of the trace after `step` steps, against the brief.

    If the probe is not used after that many steps, the preview's score is the prediction.
    """
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
    words = focused_words(trace)
    if fitting is None or step not in fitting.windows:
        views: list[dict[str, Any]] = [{"basis": "preview", "score": s.value} for s in scores]
    else:
        look = _looked(scorer, brief, prompts, previews, scores, trace) if fitting.judged else None
        views, words = _probed(fitting, fitting.windows[step], trace, look, words)
    return [
        Preview(None, preview, why)
        if (why := _preview_only(score, fine))
        else Preview(
            Prediction(**view, preview=score.value, explanation=score.explanation, words=own),
            preview,
        )
        for view, preview, score, fine, own in zip(
            views, previews, scores, finite.tolist(), words, strict=True
        )
    ]


def _looked(
    scorer: Scorer,
    brief: str,
    prompts: Sequence[str],
    previews: Sequence[Image.Image],
    scores: Sequence[Score],
    trace: Trace,
) -> PreviewScore:
    """Scores of the previews: as a whole against the brief, since that is the target, and word by
    word against the prompt, whose words were traced, if the scorer judges words."""
    by_word = list(scores)
    for prompt in dict.fromkeys(prompts):
        places = [at for at, other in enumerate(prompts) if other == prompt]
        if prompt != brief and any(scores[at].words for at in places):
            found = scorer(prompt, [previews[at] for at in places])
            by_word = [
                found[places.index(at)] if at in places else x for at, x in enumerate(by_word)
            ]
    return look_of(scores, by_word, trace)


def look_of(scores: Sequence[Score], by_word: Sequence[Score], trace: Trace) -> PreviewScore:
    """Scores of the previews as a whole and of their words, as tensors."""
    words = [chances(own, score) for own, score in zip(trace.words, by_word, strict=True)]
    return PreviewScore(
        padded([[score.value] for score in scores])[:, 0], padded(words, trace.mask.shape[1])
    )


def _probed(
    fitting: LoadedProbe,
    window: int,
    trace: Trace,
    look: PreviewScore | None,
    words: Sequence[tuple[Word, ...]],
) -> tuple[list[dict[str, Any]], list[tuple[Word, ...]]]:
    """The probe's predictions, and those for each word."""
    found = fitting.probe.predict(trace, window, look, fitting.target)
    # The network has learned nothing about words that no judge judges, such as "photo".
    judged = torch.zeros_like(trace.mask) if look is None else ~look.words.isnan()
    views = [{"basis": "probe", "score": p.score, "low": p.low, "high": p.high} for p in found]
    return views, [
        tuple(
            word.model_copy(update={"drawn": chance}) if known else word
            for word, chance, known in zip(own, p.words, row, strict=False)
        )
        for own, p, row in zip(words, found, judged.tolist(), strict=True)
    ]


def aligned(words: Sequence[str], verdicts: Sequence[Verdict]) -> list[Verdict | None]:
    """The verdict on each word of a prompt, or None; both are in the prompt's order."""
    found: list[Verdict | None] = []
    at = 0
    for word in words:
        rest = (i for i in range(at, len(verdicts)) if verdicts[i].word.lower() == word.lower())
        place = next(rest, None)
        found.append(None if place is None else verdicts[place])
        at = at if place is None else place + 1
    return found


def chances(words: Sequence[str], score: Score) -> list[float | None]:
    """A judge's chance for each word of a prompt."""
    return [None if verdict is None else verdict.chance for verdict in aligned(words, score.words)]


def seen(words: Sequence[str], score: Score) -> PreviewScores:
    """A judge's scores of a preview, as shards store them with the prompt's words."""
    return PreviewScores(score=score.value, words=tuple(chances(words, score)))


def drawn(words: Sequence[str], score: Score) -> tuple[bool | None, ...]:
    """Whether a judge finds each word of a prompt drawn as asked; None if it does not say."""
    found = aligned(words, score.words)
    return tuple(None if verdict is None else verdict.ok for verdict in found)


def _preview_only(score: Score, fine: bool) -> str:
    """Why there is no prediction; empty if there is one."""
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
