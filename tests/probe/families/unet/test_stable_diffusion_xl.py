"""What SDXL has beyond Stable Diffusion; what all families share is in test_families."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from promptprobe.probe.families.family import Settings
from promptprobe.probe.families.unet.stable_diffusion_xl import StableDiffusionXL
from tests.probe.pipelines import PROMPTS, SETTINGS, family_of, full, official

EMPTY = Settings(4, 3.0, 32, 32, "")


@pytest.mark.parametrize("zeros", [True, False])
def test_an_empty_negative_prompt_is_what_the_model_was_trained_with(
    xl_pipeline: Any, zeros: bool
) -> None:
    xl_pipeline.register_to_config(force_zeros_for_empty_prompt=zeros)
    conditioning = family_of(xl_pipeline).encode(PROMPTS, EMPTY)
    assert bool((conditioning.cond["encoder_hidden_states"][:2] == 0).all()) is zeros
    assert bool((conditioning.cond["added_cond_kwargs"]["text_embeds"][:2] == 0).all()) is zeros
    expected = official(xl_pipeline, EMPTY, "latent")
    assert torch.equal(full(family_of(xl_pipeline), EMPTY).latents, expected)


def test_latents_with_mean_and_deviation_are_decoded_as_the_pipeline_does(xl_pipeline: Any) -> None:
    xl_pipeline.vae.register_to_config(
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[0.5, 1.0, 2.0, 1.5]
    )
    family = family_of(xl_pipeline)
    images, flags = family.decode_checked(full(family, SETTINGS).latents)
    expected = official(xl_pipeline, SETTINGS, "pil")
    assert flags == (False, False)
    assert np.array_equal(images, np.stack([np.array(image) for image in expected]))


def test_a_half_precision_vae_decodes_in_full_and_is_left_as_it_was(xl_pipeline: Any) -> None:
    family = family_of(xl_pipeline)
    latents = full(family, SETTINGS).latents
    expected = family.decode(latents)
    xl_pipeline.vae.to(torch.float16)
    close = family.decode(latents).astype(int) - expected
    assert np.abs(close).max() <= 1
    assert xl_pipeline.vae.dtype == torch.float16


def test_the_refiner_is_refused(xl_pipeline: Any) -> None:
    xl_pipeline.text_encoder = None
    with pytest.raises(ValueError, match="expected SDXL base, not its refiner"):
        StableDiffusionXL(xl_pipeline)


def test_a_plain_unet_is_no_sdxl(xl_pipeline: Any, ddim_pipeline: Any) -> None:
    xl_pipeline.unet = ddim_pipeline.unet
    with pytest.raises(ValueError, match="addition_embed_type = None: expected 'text_time'"):
        StableDiffusionXL(xl_pipeline)
