"""Any number of candidates runs within memory, in every family, and comes to the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from promptprobe.tools.models.model import open_toolbox
from promptprobe.tools.records import Candidate, Generation
from tests.images import brightness, pixels

PROMPTS = ("a red cat", "a photo of a blue dog and a car", "a car")
MANY = [Candidate(prompt=prompt, seed=seed) for prompt in PROMPTS for seed in (3, 4)]


def test_more_candidates_than_memory_holds_are_probed_and_rendered_in_parts(
    tiny_pipeline: Any, tmp_path: Path
):
    """The model runs out of memory, really raising, for more than two candidates at once."""
    generation = Generation(steps=4, guidance=0, height=32, width=32)
    toolbox = open_toolbox(tiny_pipeline, generation, brightness)
    probed = toolbox.probe("a red cat", MANY, tmp_path / "a")
    whole = toolbox.render(MANY, [view.latents for view in probed], tmp_path / "b")
    denoiser = getattr(tiny_pipeline, "unet", None) or tiny_pipeline.transformer

    def crowded(module: Any, args: Any, kwargs: Any) -> None:
        if len(args[0] if args else kwargs["hidden_states"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    denoiser.register_forward_pre_hook(crowded, with_kwargs=True)
    parts = toolbox.probe("a red cat", MANY, tmp_path / "c")
    rendered = toolbox.render(MANY, [view.latents for view in parts], tmp_path / "d")
    for one, other in zip(probed, parts, strict=True):
        assert one.prediction and other.prediction
        assert abs(one.prediction.score - other.prediction.score) < 1e-3
    for view, again in zip(whole, rendered, strict=True):
        assert np.abs(pixels(view.image) - pixels(again.image)).max() <= 1
