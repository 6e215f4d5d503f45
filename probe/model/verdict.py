"""Is a probe worth using? Compares it with the preview on the same held-out prompts.

The rank within a prompt decides, because choosing among seeds depends on it. Unless the data show
that the probe is better, the preview is used: it costs less and needs no training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

LEAST_PROMPTS = 10
"""A bootstrap over fewer prompts gives intervals that are too narrow to rely on."""
SMALL = 0.03
"""A lead in rank smaller than this is not worth collecting more prompts to detect."""
RESAMPLES = 1000

Finding = Literal["better", "not better", "too few"]
Floats = NDArray[np.float64]


class Comparison(BaseModel):
    """Rank within a prompt of the probe and of the preview, after a given number of steps."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    prompts: int = Field(ge=1, description="held out, with seeds whose scores differ")
    probe: float = Field(ge=0, le=1, description="share of pairs of seeds ranked correctly")
    preview: float = Field(ge=0, le=1)
    difference: float = Field(description="probe minus preview, paired by prompt")
    low: float | None = Field(description="of its 95% interval; None with a single prompt")
    high: float | None

    @property
    def finding(self) -> Finding:
        """The conclusion that the interval supports."""
        if self.low is None or self.high is None or self.prompts < LEAST_PROMPTS:
            return "too few"
        if self.low > 0:
            return "better"
        return "not better" if self.high < SMALL else "too few"

    @property
    def more_prompts(self) -> int:
        """About how many more held-out prompts would decide, if the difference stays the same."""
        least = max(0, LEAST_PROMPTS - self.prompts)
        if self.low is None or self.high is None:
            return least
        distance = max(self.difference, SMALL - self.difference)
        needed = self.prompts * ((self.high - self.low) / 2 / distance) ** 2
        return max(least, math.ceil(needed) - self.prompts)


def compared(probe: Floats, preview: Floats, pairs: Floats) -> Comparison | None:
    """Compare the number of a prompt's `pairs` of seeds that each ranks correctly, all [prompt].

    `pairs` counts only seeds whose scores differ; None if no prompt has any.
    """
    untied = pairs > 0
    probe, preview, pairs = probe[untied], preview[untied], pairs[untied]
    if not len(pairs):
        return None
    low = high = None
    if len(pairs) > 1:
        drawn = np.random.default_rng(0).integers(0, len(pairs), (RESAMPLES, len(pairs)))
        leads = (probe - preview)[drawn].sum(1) / pairs[drawn].sum(1)
        low, high = (round(float(end), 4) for end in np.percentile(leads, (2.5, 97.5)))
    total = pairs.sum()
    ranks = [round(float(right.sum() / total), 4) for right in (probe, preview)]
    lead = round(float((probe - preview).sum() / total), 4)
    return Comparison(
        prompts=len(pairs), probe=ranks[0], preview=ranks[1], difference=lead, low=low, high=high
    )


def verdict(found: Mapping[int, Comparison]) -> str:
    """The comparisons after each number of steps, in words; empty if there are none."""
    by: dict[Finding, list[int]] = {"better": [], "not better": [], "too few": []}
    for k, one in found.items():
        by[one.finding].append(k)
    steps = {finding: _listed(ks, list(found)) for finding, ks in by.items()}
    parts = []
    if by["better"]:
        parts.append(f"better than the preview after {steps['better']}")
    if by["not better"]:
        where = f" after {steps['not better']}" if len(by["not better"]) < len(found) else ""
        parts.append(f"not better than the preview{where}: previews are used")
    if by["too few"]:
        unsure = [found[k] for k in by["too few"]]
        more = max(one.more_prompts for one in unsure)
        least = min(one.prompts for one in unsure)
        parts.append(
            f"{'1 prompt is' if least == 1 else f'{least} prompts are'} too few to tell after "
            f"{steps['too few']}: previews are used; about {more} more held-out prompts would tell"
        )
    return "; ".join(parts)


def _listed(chosen: Sequence[int], known: Sequence[int]) -> str:
    """ "2 to 8 steps", "1 and 5 steps": consecutive known numbers are written as a range."""
    runs: list[list[int]] = []
    for k in chosen:
        if runs and known.index(k) == known.index(runs[-1][-1]) + 1:
            runs[-1].append(k)
        else:
            runs.append([k])
    ranges = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    text = " and ".join(filter(None, [", ".join(ranges[:-1]), *ranges[-1:]]))
    return f"{text} step{'s' if text != '1' else ''}"
