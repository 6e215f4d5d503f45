"""The numbers for two small SVG plots: scales with round ticks, and points in pixels.

The template draws them; this module only computes, so no text of a run gets into the markup.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 460, 320
LEFT, RIGHT, TOP, BOTTOM = 48, 16, 14, 44
"""Margins around the plotting area for ticks and labels."""
TICKS = 5


@dataclass(frozen=True)
class Scale:
    """Maps values to pixels along one axis."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of a value, to a tenth; values outside the scale are clamped to its ends."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Pixels and labels of round values on the scale."""
        step = _round_step((self.high - self.low) / TICKS)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        return [(self(n * step), f"{n * step:,.{digits}f}") for n in range(first, last + 1)]


def across(values: Iterable[float]) -> Scale:
    """The horizontal scale of values."""
    return Scale(*_range(values), LEFT, WIDTH - RIGHT)


def upward(values: Iterable[float]) -> Scale:
    """The vertical scale of values; pixels count from the top."""
    return Scale(*_range(values), HEIGHT - BOTTOM, TOP)


def steps(points: Sequence[tuple[float, float]], x: Scale, y: Scale, end: float) -> str:
    """An SVG path that holds each value until the next, and the last one up to `end`."""
    first, *rest = points
    path = f"M{x(first[0])} {y(first[1])}"
    for at, height in rest:
        path += f"H{x(at)}V{y(height)}"
    return f"{path}H{x(end)}"


def _range(values: Iterable[float]) -> tuple[float, float]:
    """The ends of a scale, with margins around the values; never empty."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    room = (high - low) * 0.06 or max(abs(high), 1.0) * 0.1
    return low - room, high + room


def _round_step(step: float) -> float:
    power = 10 ** math.floor(math.log10(step))
    return next(round_ * power for round_ in (1, 2, 5, 10) if step <= round_ * power * (1 + 1e-9))
