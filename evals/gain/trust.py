"""Do runs distrust the probe if, and only if, they should?

Every brief is optimized twice: with the probe, and with a shuffled probe, whose predictions are
given to other candidates of the same batch while their previews stay. A run that stops trusting the
first is a false alarm; one that stops trusting the second is a detection. Both are denied the
scorer's verdict that a picture is correct, which most scorers do not give. They then spend their
whole budget; otherwise half of the runs on Sprites would end with a first correct picture, which
says nothing about a probe.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from promptprobe.agent.doors.schemas import OptimizeRequest
from promptprobe.agent.given import opened
from promptprobe.agent.optimize import start
from promptprobe.agent.result import OptimizationResult
from promptprobe.evals.bench import own_of
from promptprobe.evals.statistics import share
from promptprobe.tools.protocol import Probed, Tools
from promptprobe.tools.records import Candidate, Score


class Spending:
    """Tools whose scorer calls no picture correct, so that no run ends with one."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tools, name)

    def score(self, brief: str, images: Sequence[Path]) -> list[Score]:
        """The scores, without their verdict."""
        scores = self._tools.score(brief, images)
        return [score.model_copy(update={"correct": None}) for score in scores]


class Shuffled(Spending):
    """`Spending` with a probe whose predictions are given to other candidates of the batch."""

    def probe(
        self, brief: str, candidates: Sequence[Candidate], folder: Path, *given: Any, **named: Any
    ) -> list[Probed]:
        """Results with shuffled predictions and unchanged previews."""
        looks = self._tools.probe(brief, candidates, folder, *given, **named)
        ring = list(range(len(looks)))
        Random(candidates[0].seed).shuffle(ring)
        following = dict(zip(ring, ring[1:] + ring[:1], strict=True))
        return [_with_prediction_of(own, looks[following[at]]) for at, own in enumerate(looks)]


def _with_prediction_of(own: Probed, other: Probed) -> Probed:
    if own.prediction is None or other.prediction is None:
        return own
    moved = other.prediction.model_copy(update={"preview": own.prediction.preview})
    return own.model_copy(update={"prediction": moved})


def evaluate(model: str, prompts: int, budget: str) -> dict[str, Any]:
    """Shares of runs that stopped trusting the probe and the shuffled probe.

    ValueError: there is no such built-in model.
    """
    briefs = own_of(model).evidence().held_out(prompts, "test")
    asked = [
        OptimizeRequest(brief=brief.text, model=model, budget=budget, seed=brief.run_seed)
        for brief in briefs
    ]
    sound = list(run(asked, lambda request: Spending(opened(request)), "with the probe"))
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
    """The result of each request; its folder is deleted."""
    from tqdm import tqdm

    for request in tqdm(asked, desc=label, unit="brief"):
        with tempfile.TemporaryDirectory() as folder:
            yield asyncio.run(start(request, Path(folder), open_tools=open_tools))


def figures(results: Sequence[OptimizationResult]) -> dict[str, Any]:
    """How many runs lost trust and why, and how often their intervals held."""
    broken = np.array([bool(result.trust.broken) for result in results], float)
    held = sum(result.trust.held for result in results)
    return {
        "not_trusted": share(broken).json(),
        "intervals_hold": sum(r.trust.inside for r in results) / held if held else None,
        "reasons": sorted({r.trust.broken for r in results if r.trust.broken}),
    }
