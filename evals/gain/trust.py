"""Are predictions distrusted where they should be, and only there?

Every brief is optimized twice: as a user would, and with a shuffled probe, whose predictions are
given to other candidates of the same batch while their previews stay. A run that stops trusting
the first is a false alarm, one that stops trusting the second has found it out. A run that ends
with its first picture has nothing to tell by, so the share found is given of the others too.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from promptprobe.agent.doors.schemas import OptimizeRequest
from promptprobe.agent.given import opened
from promptprobe.agent.optimize import start
from promptprobe.agent.result import OptimizationResult
from promptprobe.evals.bench import own_of
from promptprobe.evals.statistics import share
from promptprobe.tools.protocol import Probed, Tools
from promptprobe.tools.records import Candidate

FEWEST_LOOKS = 8
"""Candidates that a run must have looked at for a shuffled probe to show."""


class Shuffled:
    """Tools whose probe says of each candidate what it thinks of another one."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tools, name)

    def probe(
        self, brief: str, candidates: Sequence[Candidate], folder: Path, *given: Any, **named: Any
    ) -> list[Probed]:
        """Looks in which predictions have moved on by a place, and previews have not."""
        looks = self._tools.probe(brief, candidates, folder, *given, **named)
        others = looks[-1:] + looks[:-1]
        return [_with_prediction_of(own, other) for own, other in zip(looks, others, strict=True)]


def _with_prediction_of(own: Probed, other: Probed) -> Probed:
    if own.prediction is None or other.prediction is None:
        return own
    moved = other.prediction.model_copy(update={"preview": own.prediction.preview})
    return own.model_copy(update={"prediction": moved})


def evaluate(model: str, prompts: int, budget: str) -> dict[str, Any]:
    """Shares of runs that stopped trusting the probe, and the shuffled probe.

    ValueError: no such built-in model.
    """
    briefs = own_of(model).evidence().held_out(prompts, "test")
    asked = [
        OptimizeRequest(brief=brief.text, model=model, budget=budget, seed=brief.run_seed)
        for brief in briefs
    ]
    sound = list(run(asked, opened, "with the probe"))
    shuffled = list(run(asked, lambda request: Shuffled(opened(request)), "shuffled"))
    return {
        "eval": "trust",
        "model": model,
        "budget": budget,
        "n_prompts": prompts,
        "probe": figures(sound),
        "shuffled": figures(shuffled),
    }


def run(
    asked: Sequence[OptimizeRequest], open_tools: Callable[..., Any], label: str
) -> Iterator[OptimizationResult]:
    """The result of each request; its folder is gone."""
    from tqdm import tqdm

    for request in tqdm(asked, desc=label, unit="brief"):
        with tempfile.TemporaryDirectory() as folder:
            yield asyncio.run(start(request, Path(folder), open_tools=open_tools))


def figures(results: Sequence[OptimizationResult]) -> dict[str, Any]:
    """How many runs lost their trust: of all, and of those that looked at enough to tell."""
    broken = np.array([bool(result.trust.broken) for result in results], float)
    looked = np.array([sum(bool(t.looks) for t in result.trials) for result in results])
    held = sum(result.trust.held for result in results)
    long = looked >= FEWEST_LOOKS
    return {
        "not_trusted": share(broken).json(),
        "runs_with_enough_looks": int(long.sum()),
        "not_trusted_of_these": share(broken[long]).json() if long.sum() > 1 else None,
        "intervals_hold": sum(r.trust.inside for r in results) / held if held else None,
        "reasons": sorted({r.trust.broken for r in results if r.trust.broken}),
    }
