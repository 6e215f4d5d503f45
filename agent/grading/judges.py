"""Judges that only grade: calls them during a run, and reports disagreement with its winner.

Grades never select. They are recorded as they come, so a resumed run pays for none twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import stdev

from promptprobe.agent.context import Context, timed
from promptprobe.agent.ledger import GradedLine
from promptprobe.tools.records import Candidate, Score, Trial

LEAST_GRADED = 3
"""Number of pictures from which the spread of grades can be estimated."""


async def grade(run: Context, round: int, images: Sequence[tuple[Candidate, Path]]) -> None:
    """Have every judge grade the finished images that it has not graded before."""
    for name in run.tools.judge_names:
        new = [(one, path) for one, path in images if name not in run.ledger.graded(one)]
        if not new:
            continue
        paths = [path for _, path in new]
        grades, each = await timed(run.tools.judge, name, run.settings.brief, paths)
        run.ledger.write(
            [
                GradedLine(
                    at=run.seconds, round=round, candidate=one, judge=name, score=s, seconds=each
                )
                for (one, _), s in zip(new, grades, strict=True)
            ]
        )
        for reason in dict.fromkeys(score.reason for score in grades if score.value is None):
            run.warn(f"the judge {name} left an image ungraded: {reason}")


def disagreements(trials: Sequence[Trial], best: Trial | None) -> Iterator[str]:
    """A sentence for each judge that disagrees with the scorer's choice of the best trial.

    A judge disagrees if it calls the best picture incorrect, or grades another one higher by more
    than one standard deviation of its grades (with at least three grades).
    """
    for name, own in (best.judged if best else {}).items():
        grades = [
            (found, trial)
            for trial in trials
            if (score := trial.judged.get(name)) and (found := score.value) is not None
        ]
        if own.value is None:
            continue
        top, preferred = max(grades, key=lambda graded: graded[0])
        apart = len(grades) >= LEAST_GRADED and top - own.value > stdev(
            value for value, _ in grades
        )
        if own.correct is False or apart:
            yield _sentence(name, own, preferred if top > own.value else None)


def _sentence(name: str, own: Score, preferred: Trial | None) -> str:
    """One disagreement, in a sentence."""
    text = f"the judge {name} disagrees with the choice: it grades the best picture {own.value:.3g}"
    if own.explanation:
        text += f" ({own.explanation[:200]})"
    if preferred:
        other, grade = preferred.candidate, preferred.judged[name].value
        text += f" and prefers seed {other.seed} of {other.prompt[:80]!r}: {grade:.3g}"
    return text
