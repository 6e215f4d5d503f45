"""Does the probe find the words that go wrong? Its predictions against the finished picture.

A word's label is the scorer's verdict on the finished image. The probe is compared with the
scorer's own verdict on the preview, and with a prior that knows only the word and its kind of
scene.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from promptprobe.evals.statistics import Estimate, Floats, Rows, auc, bootstrap
from promptprobe.tools.models.built_in import Brief
from promptprobe.tools.predictions import aligned
from promptprobe.tools.records import Score

SHRINK = 4.0
"""Pseudo-counts: the weight of the role's rate in a word's prior."""

Words = Sequence[tuple[str, ...]]
Roles = Callable[[str], Mapping[str, str]]
"""Maps a brief to the roles of its words, as far as they are known."""
ANY_ROLE = "word"


class Verdicts(NamedTuple):
    """Every judged word of one brief's candidates: [word of a candidate]."""

    names: list[tuple[str, str, str]]
    """Kind of scene, role, word."""
    missing: Floats
    """1 if the finished image does not show what the word asks for, otherwise 0."""


@dataclass(frozen=True)
class Doubt:
    """Guesses of which words will be missing, one array for each brief; higher is likelier."""

    name: str
    guesses: list[Floats]


def verdicts(
    briefs: Sequence[Brief], scores: Sequence[Sequence[Score]], words: Words, roles: Roles
) -> list[Verdicts]:
    """The labels of each brief's words; `words` are the traced ones, candidate by candidate."""
    found, at = [], 0
    for brief, row in zip(briefs, scores, strict=True):
        role = roles(brief.text)
        names: list[tuple[str, str, str]] = []
        missing: list[float] = []
        for score in row:
            for word, verdict in zip(words[at], aligned(words[at], score.words), strict=True):
                if verdict is not None:
                    word = word.lower()
                    names.append((brief.kind, role.get(word, ANY_ROLE), word))
                    missing.append(float(not verdict.ok))
            at += 1
        found.append(Verdicts(names, np.array(missing)))
    return found


def doubt(
    name: str,
    truth: Sequence[Verdicts],
    scores: Sequence[Sequence[Score]],
    words: Words,
    chances: Sequence[Sequence[float]],
) -> Doubt:
    """One minus the chances, [candidate][traced word], of the words that are judged."""
    guesses, at = [], 0
    for row in scores:
        of_brief = []
        for score in row:
            judged = aligned(words[at], score.words)
            of_brief += [1 - c for c, v in zip(chances[at], judged, strict=True) if v is not None]
            at += 1
        guesses.append(np.array(of_brief))
    assert [len(g) for g in guesses] == [len(t.missing) for t in truth]
    return Doubt(name, guesses)


Prior = Callable[[Sequence[Verdicts]], Doubt]


def prior(briefs: Sequence[Brief], scores: Sequence[Sequence[Score]], roles: Roles) -> Prior:
    """How often a word was missing in other scenes of this kind, shrunk towards its role's rate."""
    words = [
        tuple(verdict.word for verdict in score.words) for of_brief in scores for score in of_brief
    ]
    known = verdicts(briefs, scores, words, roles)
    total: dict[object, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for seen in known:
        for (kind, role, word), missing in zip(seen.names, seen.missing, strict=True):
            for key in ((kind, role, word), (kind, role)):
                total[key][0] += missing
                total[key][1] += 1

    def guess(name: tuple[str, str, str]) -> float:
        missing, times = total.get(name[:2], [1.0, 2.0])
        own, seen = total.get(name, [0.0, 0.0])
        return (own + SHRINK * missing / times) / (seen + SHRINK)

    def of(truth: Sequence[Verdicts]) -> Doubt:
        return Doubt("prior", [np.array([guess(name) for name in t.names]) for t in truth])

    return of


def diagnosis(truth: Sequence[Verdicts], doubts: Sequence[Doubt]) -> dict[str, Any]:
    """AUC of each `Doubt` over all words and by role, and the first one's minus each other's."""
    roles = sorted({role for t in truth for _, role, _ in t.names})
    table: dict[str, Any] = {
        "words": sum(len(t.missing) for t in truth),
        "missing": round(float(np.concatenate([t.missing for t in truth]).mean()), 4),
    }
    for way in doubts:
        found = {"all": _auc(truth, way)} | {role: _auc(truth, way, role) for role in roles}
        table[way.name] = {name: estimate.json() for name, estimate in found.items()}
    first, *others = doubts
    for other in others:
        table[f"{first.name} minus {other.name}"] = _auc(truth, first, against=other).json()
    return table


def _auc(
    truth: Sequence[Verdicts], way: Doubt, role: str = "", against: Doubt | None = None
) -> Estimate:
    picks = [np.array([not role or of == role for _, of, _ in t.names], bool) for t in truth]
    missing = [t.missing[pick] > 0 for t, pick in zip(truth, picks, strict=True)]

    def of(way: Doubt, rows: Rows) -> Floats:
        guesses = [way.guesses[at][picks[at]] for at in rows]
        return auc(np.concatenate(guesses), np.concatenate([missing[at] for at in rows]))

    def over(resamples: Rows) -> Floats:
        return np.array(
            [of(way, rows) - (of(against, rows) if against else 0) for rows in resamples]
        )

    return bootstrap(over, len(truth))
