"""What Stable Diffusion has beyond the others: a safety checker."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from transformers import CLIPConfig, CLIPImageProcessor

from promptprobe.probe.families.unet.stable_diffusion import StableDiffusion
from tests.probe.pipelines import SETTINGS, full, official


def checker(threshold: float) -> StableDiffusionSafetyChecker:
    small = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "projection_dim": 8,
    }
    config = CLIPConfig(
        text_config=small,
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    made = StableDiffusionSafetyChecker(config)
    made.concept_embeds.data.fill_(0.0)
    made.concept_embeds_weights.data.fill_(threshold)
    return made


@pytest.mark.parametrize(("threshold", "flagged"), [(-1.0, True), (1.0, False)])
def test_a_flagged_image_is_black_and_reported(
    ddim_pipeline: Any, threshold: float, flagged: bool
) -> None:
    ddim_pipeline.safety_checker = checker(threshold)
    ddim_pipeline.feature_extractor = CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    family = StableDiffusion(ddim_pipeline)
    latents = full(family, SETTINGS).latents
    images, flags = family.decode_checked(latents)
    assert flags == (flagged, flagged)
    assert bool((images == 0).all()) is flagged
    assert family.decode(latents).any()
    expected = official(ddim_pipeline, SETTINGS, "pil")
    assert np.array_equal(images, np.stack([np.array(image) for image in expected]))
