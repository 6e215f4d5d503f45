"""What an eval of fidelity draws: two tables, coarse renders, and every way to guess the scores.

Test prompts are used for measuring only; fitting and choosing use other prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from promptprobe.evals.baselines import fitted
from promptprobe.evals.baselines.baselines import Cost, Method
from promptprobe.evals.bench import Bench
from promptprobe.evals.briefs import Sample
from promptprobe.evals.fidelity.gaps import without_gaps
from promptprobe.evals.fidelity.rollouts import Rollouts, roll_out
from promptprobe.evals.fidelity.stored import stored
from promptprobe.evals.fidelity.timing import Timing, measure_timing
from promptprobe.evals.sampling import grade, sample, with_gaps
from promptprobe.evals.statistics import Floats
from promptprobe.probe.training.shards import read_collection
from promptprobe.tools.toolbox import PROBED_SHARE

COARSE = (3, 5, 8)
"""Steps of the coarse renders."""
PREVIEW_DROPOUT = "the probe without the judge's look"
PREVIEW = "x0 preview"


@dataclass(frozen=True)
class Experiment:
    """Everything that an eval of fidelity has drawn."""

    bench: Bench
    step: int
    sample: Sample
    test: Rollouts
    known: Rollouts
    """Prompts for fitting and choosing."""
    coarse: dict[int, Floats]
    """Scores of renders in few steps, [prompt, seed] of `test`, by number of steps."""
    timing: Timing
    shards: Path | None = None
    """A collection to train the baseline networks on; None leaves them out."""
    notes: tuple[str, ...] = ()
    """What was left out of the tables."""

    @property
    def predictor(self) -> str:
        """The method that this eval measures."""
        return "probe" if self.bench.probe else f"{PREVIEW} at step {self.step}"

    @property
    def threshold(self) -> float:
        """The score from which an image is good: given, or the median of training or validation."""
        good, probe = self.bench.good, self.bench.probe
        if good is not None:
            return good
        return float(probe.card.targets[0].median if probe else np.median(self.known.scores))


def run_experiment(
    bench: Bench,
    briefs: Sample,
    seeds: int,
    step: int | None = None,
    shards: Path | None = None,
) -> Experiment:
    """Draw all briefs with `seeds` (at least 2) each, and coarse renders of the test briefs.

    Candidates that a collection holds are read instead of drawn.

    ValueError: the step is out of range, the probe was not trained for it, or the shards were made
    with other settings.
    """
    steps = bench.settings.steps
    step, windows = looks_of(bench, step, shards or briefs.shards)
    if briefs.shards:
        windows = [k for k in windows if k in read_collection(briefs.shards).windows]
        test, known = stored(bench, briefs.shards, (briefs.test, briefs.known), seeds, windows)
    else:
        test = roll_out(bench, briefs.test, seeds, windows)
        known = roll_out(bench, briefs.known, seeds, windows)
    coarse = {k: rendered(bench, test, k) for k in sorted({*COARSE, step}) if k < steps}
    test, known, coarse, notes = without_gaps(test, known, coarse)
    time = measure_timing(bench, test.pairs, step)
    return Experiment(bench, step, briefs, test, known, coarse, time, shards, notes)


def looks_of(bench: Bench, step: int | None, shards: Path | None) -> tuple[int, list[int]]:
    """The given step, or the default one, and all numbers of steps after which to predict.

    ValueError: as for `run_experiment`, raised before an hour of work.
    """
    steps, step = bench.settings.steps, step or probed_steps(bench)
    if not 1 <= step < steps:
        raise ValueError(f"expected a step from 1 to {steps - 1}, got {step}")
    if bench.probe:
        bench.probe.card.window_for(step, bench.facts)
    if shards:
        from promptprobe.evals.ablations.networks import collected

        collected(shards, step, bench)
    return step, sorted({step, *windows_of(bench)})


def coarse_name(steps: int) -> str:
    """The name of a coarse render in tables."""
    return f"coarse render in {steps} steps"


def probed_steps(bench: Bench) -> int:
    """The number of steps that the agent's tools probe: a fifth, as in the paper, or the probe's
    nearest number of steps."""
    share = max(1, round(bench.settings.steps / PROBED_SHARE))
    known = windows_of(bench) if bench.probe else ()
    return min(known, key=lambda k: abs(k - share), default=share)


def windows_of(bench: Bench) -> Sequence[int]:
    """The numbers of steps that the probe is trained for, or that a new probe would be."""
    from promptprobe.tools.collect.learn import scaled

    if bench.probe:
        return [k for k in bench.probe.card.windows_here(bench.facts) if k < bench.settings.steps]
    return scaled(bench.settings)


def rendered(bench: Bench, table: Rollouts, steps: int) -> Floats:
    """Scores of renders of the same seeds in few steps, [prompt, seed]."""
    found = sample(bench, table.pairs, label=f"{steps} coarse steps", steps=steps)
    return with_gaps(grade(bench.score, table.briefs, found.images))


def methods(drawn: Experiment) -> dict[str, Method]:
    """Every way to guess the test scores, by name, with its cost; the predictor comes first."""
    test, time, step = drawn.test, drawn.timing, drawn.step
    full = time.full()
    found: dict[str, Method] = {}
    if drawn.bench.probe:
        rest, predicted = time.finish(step), predictions_at(test, step)["probe"]
        blind = test.shaped([prediction.score for prediction in test.views[step].blind])
        found["probe"] = Method(predicted, time.probe(step), rest)
        found[PREVIEW_DROPOUT] = Method(blind, time.probe(step, judged=False), rest)
    for k in sorted(test.views, key=lambda k: (k != step, k)):
        found[f"{PREVIEW} at step {k}"] = Method(test.previews(k), time.preview(k), time.finish(k))
    for k, scores in drawn.coarse.items():
        found[coarse_name(k)] = Method(scores, time.full(k), full)
    found |= fitted.fit_baselines(drawn.known, test, drawn.bench, step, time)
    if drawn.shards:
        from promptprobe.evals.ablations import networks

        found |= networks.train_baselines(drawn.shards, test, step, time, drawn.bench)
    dice = np.random.default_rng(0).random(test.scores.shape)
    return found | {"random": Method(dice, Cost(0, 0), full)}


def predictions_at(table: Rollouts, k: int) -> dict[str, Floats]:
    """Guesses of the preview after k steps, and of the probe if there is one for k steps."""
    found = {PREVIEW: table.previews(k)}
    if predictions := table.views[k].predictions:
        found["probe"] = table.shaped([prediction.score for prediction in predictions])
    return found
