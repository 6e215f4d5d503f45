"""What goes wrong with a model in the middle of a run is said in its warnings, and costs little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from promptprobe import Budget, Generation, OptimizationResult, optimize_prompt
from promptprobe.agent.events import CandidatesSelected, Event
from tests.images import brightness

STEPS = 10
LATE = 300
"""A timestep, of 1000, that is past every look."""


def run(model: Any, out: Path, **further: Any) -> OptimizationResult:
    return optimize_prompt(
        "a red cat", model=model, scorer=brightness, rewrite="off", out=out,
        generation=Generation(steps=STEPS, guidance=0),
        budget=Budget(renders=8, seeds=6, keep=2), **further,
    )  # fmt: skip


def test_a_batch_that_is_halved_is_told(ddim_pipeline: Any, tmp_path: Path) -> None:
    def crowded(module: Any, args: Any) -> None:
        if len(args[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    whole = run(ddim_pipeline, tmp_path)
    assert whole.warnings == ()
    ddim_pipeline.unet.register_forward_pre_hook(crowded)
    parts = run(ddim_pipeline, tmp_path)
    assert any("images at once did not fit into memory" in said for said in parts.warnings)
    assert parts.best.candidate == whole.best.candidate


@pytest.mark.parametrize(
    ("late", "said"),
    [(False, "a candidate has no early prediction: the"), (True, "an image is unscored: the")],
)
def test_numbers_that_are_not_finite_are_told(
    ddim_pipeline: Any, tmp_path: Path, late: bool, said: str
) -> None:
    """The first of each batch is spoilt in its first steps, or only in its last ones."""

    def spoilt(module: Any, args: Any, output: Any) -> Any:
        sample, timestep = args[0], int(args[1])
        if (timestep < LATE) == late and len(sample) > 1:
            output[0][0] = torch.nan
        return output

    ddim_pipeline.unet.register_forward_hook(spoilt)
    result = run(ddim_pipeline, tmp_path)
    assert any(f"{said} model produced numbers that are not" in one for one in result.warnings)
    assert result.best.score is not None and result.best.score.value is not None


def test_latents_that_are_lost_are_told_and_their_picture_is_drawn(
    ddim_pipeline: Any, tmp_path: Path
) -> None:
    def lose(event: Event) -> None:
        if isinstance(event, CandidatesSelected):
            for path in tmp_path.glob("robbed/*/latents/*"):
                path.unlink()

    whole = run(ddim_pipeline, tmp_path / "whole")
    robbed = run(ddim_pipeline, tmp_path / "robbed", on_event=lose)
    assert any("denoised from the start" in said for said in robbed.warnings)
    ours, theirs = (
        {trial.candidate: trial.score.value for trial in one.trials if trial.score}
        for one in (robbed, whole)
    )
    both = ours.keys() & theirs.keys()
    assert len(both) > 1 and all(ours[one] == pytest.approx(theirs[one], abs=0.01) for one in both)
