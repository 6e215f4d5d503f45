"""The planner's input and output as frozen records, which a run's state can hold.

Nothing here needs numpy, so the command line can print a schedule without loading it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from promptprobe.tools.records import Candidate, Record, Unit

Correlation = Annotated[float, Field(ge=-1, le=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Signal(Record):
    """How well a look after each step predicts the final score, among the seeds of one prompt."""

    total: int = Field(ge=1, description="steps of a full render")
    steps: tuple[int, ...] = Field(description="steps after which there may be a look, ascending")
    correlations: tuple[Correlation, ...] = Field(
        description="correlation of each look with the final score, within a prompt"
    )
    quantiles: tuple[float, ...] | None = Field(
        default=None,
        description="measured quantiles of standardized scores within a prompt, at evenly spaced "
        "probabilities; None: Gaussian. With a ceiling, the best of many gains less",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if list(self.steps) != sorted({k for k in self.steps if 0 < k < self.total}):
            raise ValueError(f"expected ascending steps below {self.total}, got {self.steps}")
        if len(self.correlations) != len(self.steps):
            raise ValueError(
                f"expected {len(self.steps)} correlations, got {len(self.correlations)}"
            )
        if self.quantiles is not None and (
            len(self.quantiles) < 2 or list(self.quantiles) != sorted(self.quantiles)
        ):
            raise ValueError("expected at least 2 quantiles, ascending")
        return self


class Costs(Record):
    """Costs of a run's parts. Looks and finishes cost no NFE; seconds of 0 are not counted."""

    nfe_per_step: float = Field(default=1, gt=0, description="2 under classifier-free guidance")
    step_seconds: NotNegative = 0
    look_seconds: NotNegative = Field(
        default=0, description="to decode and score a preview, or to probe"
    )
    finish_seconds: NotNegative = Field(default=0, description="to decode and score an image")

    def render_seconds(self, total: int) -> float:
        """Seconds to render and score one image in full."""
        return total * self.step_seconds + self.finish_seconds

    def cap(self, total: int, renders: float, seconds: float | None) -> float:
        """Seconds a schedule may take: those of `renders` full renders, or `seconds` if less."""
        caps = (renders * self.render_seconds(total), seconds or 0)
        return min((one for one in caps if one > 0), default=math.inf)

    def price(
        self, total: int, candidates: int, rungs: Sequence[tuple[int, int]]
    ) -> tuple[float, float]:
        """Steps and seconds that these candidates and rungs (step, keep) take in all."""
        steps, seconds, left, at = 0.0, 0.0, candidates, 0
        for step, keep in rungs:
            steps += left * (step - at)
            seconds += left * self.look_seconds
            left, at = keep, step
        steps += left * (total - at)
        return steps, seconds + steps * self.step_seconds + left * self.finish_seconds


class Rung(Record):
    """After `step` steps, look at every remaining candidate and keep the best `keep`."""

    step: int = Field(ge=1)
    keep: int = Field(ge=1)
    weights: tuple[float, ...] = Field(
        description="weights of the standardized looks so far, this one last; the sum predicts"
    )


class Waves(Record):
    """Look at a few candidates at a time and finish promising ones, until one is good."""

    size: int = Field(ge=1, description="candidates that are looked at together")
    chance: Unit = Field(description="chance of being good above which to finish at once")


class Schedule(Record):
    """How to spend a budget. Without rungs it is naive best-of-n."""

    total: int = Field(description="steps of a full render")
    candidates: int = Field(ge=1, description="candidates started, spread evenly over the prompts")
    rungs: tuple[Rung, ...] = ()
    waves: Waves | None = Field(
        default=None,
        description="for a run that ends with its first good picture; it has one rung. None: all "
        "candidates take each rung together",
    )
    renders: float = Field(description="denoising it takes, in renders' worth")
    nfe: float
    seconds: float = Field(description="expected seconds; 0 if no times are known")
    gain: float = Field(
        description="expected best score minus a random candidate's, as the signal predicts"
    )
    deviation: NotNegative = Field(description="standard deviation of that best score")
    naive_gain: float = Field(description="`gain` of naive best-of-n at the same cost")

    @property
    def finishes(self) -> int:
        """How many candidates are rendered in full."""
        return self.rungs[-1].keep if self.rungs else self.candidates

    def first(self, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """The candidates to look at first."""
        return tuple(candidates[: self.waves.size] if self.waves else candidates)

    @property
    def is_naive(self) -> bool:
        """Whether everything that is started is finished."""
        return not self.rungs

    def __str__(self) -> str:
        number = f"{self.candidates} candidate{'s' * (self.candidates != 1)}"
        if self.waves:
            return (
                f"up to {number}, {self.waves.size} at a time, look after "
                f"{self.rungs[0].step}, finish from a chance of {self.waves.chance:.0%}"
            )
        left, looks = self.candidates, ""
        for rung in self.rungs:
            if rung.keep < left:
                looks += f", keep {rung.keep} after {rung.step}"
            else:  # nobody is dropped
                again = looks.rpartition(", ")[2].startswith("look after")
                looks += f" and {rung.step}" if again else f", look after {rung.step}"
            left = rung.keep
        return f"{number}{looks}, finish {self.finishes}"


def none_fits(renders: float, seconds: float) -> ValueError:
    """The error for a budget that does not pay for a single picture."""
    return ValueError(
        f"not one render fits into a budget of {renders:g} renders' worth and {seconds:g} seconds"
    )


def from_spearman(rank: float) -> float:
    """The correlation of two Gaussians whose rank correlation is `rank`."""
    return 2 * math.sin(math.pi * rank / 6)


def from_pairwise(accuracy: float) -> float:
    """The correlation of two Gaussians that order this share of pairs alike."""
    return math.sin(math.pi * (accuracy - 0.5))
