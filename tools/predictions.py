"""What the first steps predict: the scorer looks at the decoded x0, a trained probe beyond it.

Without a probe the preview's score is all there is. Nothing has calibrated it, and its `basis`
says so.
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

NOT_FINITE = (
    "the model produced numbers that are not finite, so there is no image; "
    'dtype "float32" often helps'
)


@dataclass(frozen=True)
class Preview:
    """A prediction, or None and the reason; and the decoded x0 that it is of."""

    prediction: Prediction | None
    preview: Image.Image
    reason: str = ""


@dataclass(frozen=True)
class LoadedProbe:
    """A probe that was made for what is in use, and how to ask it."""

    probe: Probe
    windows: Mapping[int, int]
    """The card's window that is asked, by the number of steps made here."""
    ranks: Mapping[int, float]
    """By that number: how many of a prompt's pairs of seeds a look puts in the right order."""
    preview_ranks: Mapping[int, float]
    """The same of previews alone, on the same prompts."""
    target: int
    judged: bool
    """Whether the scorer in use is the one whose look at the preview it knows."""
    left: tuple[int, ...] = ()
    """Numbers of steps after which the preview is used, since the probe was not found better."""

    @property
    def note(self) -> str:
        """Where the probe is not asked; empty: it is asked wherever it was trained."""
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
    """The probe of a folder, if it holds for this model, these settings and this scorer.

    A step at which it was not found better than the preview is left to the preview.

    Raises:
        ProbeError: it is missing, broken or made for others; names the two values that differ.
    """
    probe = load_probe(folder)
    facts = model_spec_of(family, settings)
    check(probe.card, facts)
    target = probe.target(name := f"{scorer.name} score")
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
    """One view a candidate of the trace after so many steps, each of its prompt, against the brief.

    Where the probe has nothing to say after that many, the preview speaks.
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
            Prediction(**view, preview=score.value, explanation=score.explanation, words=said),
            preview,
        )
        for view, preview, score, fine, said in zip(
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
    """What the judge says of each preview: as a whole against the brief, which is what counts; word
    by word against the prompt, whose words were traced, by a scorer that tells words apart."""
    said = list(scores)
    for prompt in dict.fromkeys(prompts):
        places = [at for at, other in enumerate(prompts) if other == prompt]
        if prompt != brief and any(scores[at].words for at in places):
            found = scorer(prompt, [previews[at] for at in places])
            said = [found[places.index(at)] if at in places else x for at, x in enumerate(said)]
    return look_of(scores, said, trace)


def look_of(scores: Sequence[Score], said: Sequence[Score], trace: Trace) -> PreviewScore:
    """Scores of the previews as wholes, and what is said of their words, as tensors."""
    words = [chances(own, score) for own, score in zip(trace.words, said, strict=True)]
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
    """What the probe says in numbers, and of each word."""
    found = fitting.probe.predict(trace, window, look, fitting.target)
    # Of words that no judge judges, such as "photo", training has told the network nothing.
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
    """The verdict on each word of a prompt; both are in its order, and None stands for none."""
    found: list[Verdict | None] = []
    at = 0
    for word in words:
        rest = (i for i in range(at, len(verdicts)) if verdicts[i].word.lower() == word.lower())
        place = next(rest, None)
        found.append(None if place is None else verdicts[place])
        at = at if place is None else place + 1
    return found


def chances(words: Sequence[str], score: Score) -> list[float | None]:
    """How sure a judge is of each word of a prompt."""
    return [None if verdict is None else verdict.chance for verdict in aligned(words, score.words)]


def seen(words: Sequence[str], score: Score) -> PreviewScores:
    """A judge's look at a preview, as shards keep it beside a prompt's words."""
    return PreviewScores(score=score.value, words=tuple(chances(words, score)))


def drawn(words: Sequence[str], score: Score) -> tuple[bool | None, ...]:
    """Which words of a prompt a judge finds drawn as asked; None where it does not say."""
    found = aligned(words, score.words)
    return tuple(None if verdict is None else verdict.ok for verdict in found)


def _preview_only(score: Score, fine: bool) -> str:
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
