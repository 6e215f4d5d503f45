"""How long each part of predicting and rendering takes on this machine, in seconds an image."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from promptprobe.evals.baselines.baselines import Cost
from promptprobe.evals.bench import Bench

if TYPE_CHECKING:
    from promptprobe.tools.collect.rollout import Pair

ROUNDS = 3


@dataclass(frozen=True)
class Timing:
    """Seconds an image, the median of `ROUNDS` runs of one batch."""

    bench: Bench
    encode: float
    step: float
    capture: float
    """Seconds that tracing adds to the traced step."""
    decode: float
    score: float
    predict: float
    """The probe's network; 0 without a probe."""

    def full(self, steps: int | None = None) -> Cost:
        """Cost of a render in this many steps (default: all) and its score."""
        steps = steps or self.bench.settings.steps
        seconds = self.encode + steps * self.step + self.decode + self.score
        return Cost(self.bench.nfe(of=steps), seconds)

    def preview(self, k: int, since: int = 0) -> Cost:
        """Cost of a decoded and judged x0 after k steps, from a state after `since` steps."""
        seconds = (k - since) * self.step + self.decode + self.score + self.encode * (since == 0)
        return Cost(self.bench.nfe(since, k), seconds)

    def probe(self, k: int, since: int = 0, *, judged: bool = True) -> Cost:
        """Cost of a prediction after k steps, with a judge's score of the preview or without."""
        saved = 0.0 if judged else self.decode + self.score
        return self.preview(k, since) + Cost(0, self.capture + self.predict - saved)

    def finish(self, k: int) -> Cost:
        """Cost from k steps to a finished and judged picture."""
        steps = self.bench.settings.steps
        seconds = (steps - k) * self.step + self.decode + self.score
        return Cost(self.bench.nfe(k, steps), seconds)

    def json(self) -> dict[str, float]:
        parts = ("encode", "step", "capture", "decode", "score", "predict")
        return {part: round(getattr(self, part), 5) for part in parts}


def measure_timing(bench: Bench, pairs: Sequence[Pair], k: int) -> Timing:
    """Time every part on the first batch of these candidates, predicting after k steps."""
    from promptprobe.probe.trace import record_trace
    from promptprobe.tools.collect.rollout import BATCH, prompt_by_prompt

    family, settings = bench.family, bench.settings
    prompts, seeds = [p for p, _ in pairs[:BATCH]], [s for _, s in pairs[:BATCH]]
    text, noise = family.encode(prompts, settings), family.draw_noise(seeds, settings)
    trace, _ = record_trace(family, prompts, seeds, settings, k)
    images = family.decode(trace.x0)
    probe, window = bench.probe_at(k)
    took = {
        "encode": _timed(lambda: family.encode(prompts, settings)),
        "step": _timed(lambda: family.denoise(noise, text, settings, k)) / k,
        "traced": _timed(lambda: record_trace(family, prompts, seeds, settings, k)),
        "decode": _timed(lambda: family.decode(trace.x0)),
        "score": _timed(lambda: prompt_by_prompt(bench.score, prompts, images)),
        "predict": _timed(lambda: probe.predict(trace, window)) if probe else 0.0,
    }
    capture = took.pop("traced") - took["encode"] - k * took["step"]
    each = {part: seconds / len(prompts) for part, seconds in took.items()}
    return Timing(bench, capture=max(0.0, capture / len(prompts)), **each)


def _timed(call: Callable[[], object]) -> float:
    laps = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        call()
        laps.append(time.perf_counter() - start)
    return median(laps)
