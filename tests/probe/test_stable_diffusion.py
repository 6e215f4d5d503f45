"""The families against diffusers' own pipelines: equal latents, pixels, cost and black images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import HeunDiscreteScheduler, PNDMScheduler
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from transformers import CLIPConfig, CLIPImageProcessor

from promptprobe.probe.family import Settings
from promptprobe.probe.stable_diffusion import StableDiffusion
from promptprobe.probe.trace import record_trace
from tests.probe.pipelines import (
    PROMPTS,
    SCHEDULERS,
    SEEDS,
    SETTINGS,
    family_of,
    full,
    official,
    with_scheduler,
)


@pytest.mark.parametrize("guidance", [3.0, 1.0])
@pytest.mark.parametrize("width", [32, 48])
def test_a_full_render_equals_the_official_pipeline_bit_for_bit(
    tiny_pipeline: Any, guidance: float, width: int
) -> None:
    settings = Settings(6, guidance, 32, width, "a dog")
    family = family_of(tiny_pipeline)
    latents = full(family, settings).latents
    assert torch.equal(latents, official(tiny_pipeline, settings, "latent"))
    expected = official(tiny_pipeline, settings, "pil")
    assert np.array_equal(family.decode(latents), np.stack([np.array(image) for image in expected]))


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_every_accepted_scheduler_equals_the_official_pipeline(
    ddim_pipeline: Any, pndm_pipeline: Any, xl_pipeline: Any, kind: Any
) -> None:
    for pipeline in (ddim_pipeline, pndm_pipeline, xl_pipeline):
        with_scheduler(pipeline, kind)
        latents = full(family_of(pipeline), SETTINGS).latents
        assert latents.isfinite().all()
        assert torch.equal(latents, official(pipeline, SETTINGS, "latent"))


def test_a_verb_leaves_the_state_it_was_given_usable(tiny_pipeline: Any) -> None:
    family = family_of(tiny_pipeline)
    conditioning = family.encode(PROMPTS, SETTINGS)
    noise = family.draw_noise(SEEDS, SETTINGS)
    once = family.denoise(noise, conditioning, SETTINGS, 6)
    again = family.denoise(noise, conditioning, SETTINGS, 6)
    assert torch.equal(once.latents, again.latents)


def test_the_users_pipeline_is_left_as_it_was(pndm_pipeline: Any) -> None:
    before = dict(pndm_pipeline.scheduler.__dict__)
    full(StableDiffusion(pndm_pipeline), SETTINGS)
    after = pndm_pipeline.scheduler.__dict__
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)
    assert not any(module._forward_hooks for module in pndm_pipeline.unet.modules())
    assert not any(module._forward_pre_hooks for module in pndm_pipeline.unet.modules())


@pytest.mark.parametrize("guidance", [3.0, 1.0])
def test_nfe_counts_the_evaluations_that_are_really_made(
    tiny_pipeline: Any, guidance: float
) -> None:
    settings = Settings(5, guidance, 32, 32, "")
    family = family_of(tiny_pipeline)
    made = 0

    def count(module: Any, args: Any, kwargs: Any) -> None:
        nonlocal made
        made += len(args[0])

    tiny_pipeline.unet.register_forward_pre_hook(count, with_kwargs=True)
    conditioning = family.encode(["a cat"], settings)
    prefix = family.denoise(family.draw_noise([0], settings), conditioning, settings, 2)
    assert made == family.nfe(settings, 0, 2)
    family.denoise(prefix, conditioning, settings, 5)
    assert made == family.nfe(settings, 0, 2) + family.nfe(settings, 2, 5)
    extra = tiny_pipeline.scheduler.__class__ is PNDMScheduler
    assert made == (5 + extra) * (2 if guidance > 1 else 1)


def test_the_gap_is_zero_without_guidance_and_not_with_it(ddim_pipeline: Any) -> None:
    family = StableDiffusion(ddim_pipeline)
    for guidance in (1.0, 3.0):
        settings = Settings(4, guidance, 32, 32, "")
        gaps: list[torch.Tensor] = []

        def keep(
            step: int, x0: torch.Tensor, gap: torch.Tensor, gaps: list[torch.Tensor] = gaps
        ) -> None:
            gaps.append(gap)

        family.denoise(
            family.draw_noise(SEEDS, settings),
            family.encode(PROMPTS, settings),
            settings,
            2,
            keep,
        )
        assert len(gaps) == 2
        assert bool(gaps[-1].abs().max() > 1e-6) is (guidance > 1)


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


def test_a_scheduler_that_cannot_be_carried_is_refused_by_name(pndm_pipeline: Any) -> None:
    with_scheduler(pndm_pipeline, HeunDiscreteScheduler)
    with pytest.raises(ValueError, match="HeunDiscreteScheduler cannot be stopped"):
        StableDiffusion(pndm_pipeline)


def test_something_that_is_no_such_pipeline_is_refused(ddim_pipeline: Any) -> None:
    with pytest.raises(TypeError, match="expected a StableDiffusionPipeline"):
        StableDiffusion(ddim_pipeline.unet)


def test_an_unfit_size_or_step_is_refused(ddim_pipeline: Any) -> None:
    family = StableDiffusion(ddim_pipeline)
    with pytest.raises(ValueError, match="height must be a multiple of 8 pixels, got 30"):
        family.draw_noise([0], Settings(4, 1.0, 30, 32, ""))
    state = family.draw_noise(SEEDS, SETTINGS)
    with pytest.raises(ValueError, match="expected a step from 0"):
        family.denoise(state, family.encode(PROMPTS, SETTINGS), SETTINGS, 7)


def test_a_bfloat16_pipeline_decodes_the_float32_x0_of_a_trace(ddim_pipeline: Any) -> None:
    family = StableDiffusion(ddim_pipeline.to(torch.bfloat16))
    trace, state = record_trace(family, PROMPTS, SEEDS, SETTINGS, 2)
    assert state.latents.dtype == torch.bfloat16
    assert trace.x0.dtype == torch.float32
    assert family.decode(trace.x0).shape == (2, 32, 32, 3)
