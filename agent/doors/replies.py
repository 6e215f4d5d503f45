"""Replies to remote agents: small records, so that an answer never floods an agent's context.

Everything else (all trials, full-size pictures) is named by path in the run folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from promptprobe.agent.result import OptimizationResult, StopReason
from promptprobe.tools.protocol import Probed
from promptprobe.tools.records import Candidate, Generation, Record, Spend, Trial, Word

MAX_TRIALS = 8


class TrialSummary(Record):
    """A rendered candidate: what was predicted, how it turned out, and what is wrong with it."""

    prompt: str
    seed: int
    predicted: float | None = Field(description="score predicted after the first steps")
    score: float | None = Field(description="score of the finished image; null: see explanation")
    judged: dict[str, float | None] = Field(
        description="grades by judges that only grade and never select"
    )
    explanation: str = Field(description="what the scorer saw, or why there is no score")

    @classmethod
    def of(cls, trial: Trial) -> TrialSummary:
        """The summary of a trial."""
        score = trial.score
        return TrialSummary(
            prompt=trial.candidate.prompt,
            seed=trial.candidate.seed,
            predicted=trial.predicted,
            score=trial.value,
            judged={name: grade.value for name, grade in trial.judged.items()},
            explanation=(score.explanation or score.reason) if score else "",
        )


class TrialReply(TrialSummary):
    """A rendered candidate: what was predicted, how it turned out, and what is wrong with it."""

    image: Path | None

    @classmethod
    def of(cls, trial: Trial) -> TrialReply:
        """The reply for a trial."""
        return cls(**dict(TrialSummary.of(trial)), image=trial.image)


class OptimizeReply(Record):
    """The outcome of a run. `trials` are the best rendered ones: learn from their explanations."""

    brief: str
    best: TrialReply
    initial: TrialReply = Field(description="the brief itself with the first seed")
    spent: Spend
    stop_reason: StopReason
    scorer: str = Field(description="what selected")
    trials: tuple[TrialReply, ...] = Field(description=f"the best {MAX_TRIALS} rendered trials")
    warnings: tuple[str, ...]
    run_dir: Path
    contact_sheet: Path

    @classmethod
    def of(cls, result: OptimizationResult) -> OptimizeReply:
        """The reply for a finished run."""
        return cls(
            brief=result.brief,
            best=TrialReply.of(result.best),
            initial=TrialReply.of(result.initial),
            spent=result.spent,
            stop_reason=result.stop_reason,
            scorer=result.scorer,
            trials=tuple(map(TrialReply.of, result.top(MAX_TRIALS))),
            warnings=tuple(result.warnings),
            run_dir=result.run_dir,
            contact_sheet=result.contact_sheet,
        )


class ProbeRow(Record):
    """One candidate after its first steps."""

    prompt: str
    seed: int
    predicted: float | None = Field(description="predicted score; null: none, see `reason`")
    low: float | None = Field(description="lower end of the 90% interval; null: uncalibrated")
    high: float | None
    words: tuple[Word, ...] = Field(description="what the first steps predict for each word")
    explanation: str = Field(description="what the scorer saw in the preview")
    reason: str = Field(description="why nothing is predicted")
    cut: tuple[str, ...] = Field(description="words beyond the model's token limit: not read")
    nfe: int = Field(description="denoiser evaluations this took")
    heatmap: Path | None = Field(default=None, description="picture of each word's attention")

    @classmethod
    def of(cls, candidate: Candidate, probed: Probed) -> ProbeRow:
        """The row for a candidate."""
        found = probed.prediction
        return cls(
            prompt=candidate.prompt,
            seed=candidate.seed,
            predicted=found.score if found else None,
            low=found.low if found else None,
            high=found.high if found else None,
            words=found.words if found else (),
            explanation=found.explanation if found else "",
            reason=probed.reason,
            cut=probed.cut,
            nfe=probed.nfe,
            heatmap=probed.heatmap,
        )


class ProbeReply(Record):
    """Candidates, the most promising first; no picture was rendered."""

    brief: str
    model: str
    generation: Generation = Field(description="the settings used, defaults filled in")
    basis: Literal["probe", "preview"] | None = Field(
        description="a trained probe, or only the score of an early preview, which is uncalibrated"
    )
    candidates: tuple[ProbeRow, ...]
    heatmaps: Path | None = Field(default=None, description="all heat maps on one sheet")
    steps: int = Field(description="denoising steps before the look")
    of: int = Field(description="denoising steps of a full render")
    spent: Spend
    warnings: tuple[str, ...]
