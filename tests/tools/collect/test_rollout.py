from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from promptprobe.probe.families.family import Settings
from promptprobe.probe.families.unet.stable_diffusion import StableDiffusion
from promptprobe.tools.collect.rollout import roll_out

SETTINGS = Settings(steps=3, guidance=3.0, height=32, width=32)
PAIRS = [(prompt, seed) for prompt in ("a red cat", "two dogs") for seed in (1, 2)]


class Small(StableDiffusion):
    """On a device whose memory holds one candidate, and which counts the steps that it makes."""

    steps = 0

    def denoise(
        self, state: Any, conditioning: Any, settings: Any, until: int, *how: Any, **named: Any
    ) -> Any:
        if len(state.latents) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")
        self.steps += until - state.step
        return super().denoise(state, conditioning, settings, until, *how, **named)


@pytest.fixture(scope="module")
def pipeline(ddim_folder: Path) -> Any:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(ddim_folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_candidates_that_do_not_fit_together_are_drawn_one_by_one(
    pipeline: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    together = roll_out(StableDiffusion(pipeline), SETTINGS, PAIRS, (2, 1))
    apart = roll_out(Small(pipeline), SETTINGS, PAIRS, (2, 1))
    assert (
        "2 images at once did not fit into memory: 1 at once from now on" in capsys.readouterr().err
    )
    assert list(apart.traces) == list(apart.previews) == [1, 2]
    for k, trace in together.traces.items():
        torch.testing.assert_close(apart.traces[k].maps, trace.maps, rtol=0, atol=1e-4)
    np.testing.assert_allclose(apart.images.astype(int), together.images, atol=1)


def test_a_candidate_whose_image_is_known_makes_the_traced_steps_alone(pipeline: Any) -> None:
    family, known = Small(pipeline), {pair: np.full((32, 32, 3), 7, "uint8") for pair in PAIRS[:3]}
    family.steps = 0  # it was checked with some
    drawn = roll_out(family, SETTINGS, PAIRS, (1,), known=known)
    assert family.steps == 3 * 1 + 3
    assert (drawn.images[:3] == 7).all()
    plain = roll_out(Small(pipeline), SETTINGS, PAIRS[3:]).images
    np.testing.assert_array_equal(drawn.images[3:], plain)
