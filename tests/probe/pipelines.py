"""What the tests of family, schedulers and states share: one setting, and the official pipeline."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)

from promptprobe.probe.family import Family, Settings, State
from promptprobe.tools.models import FAMILIES

PROMPTS = ["a red cat", "a photo of a green dog left of a blue car"]
SEEDS = [3, 4]
SETTINGS = Settings(steps=6, guidance=3.0, height=32, width=32, negative_prompt="a dog")

SCHEDULERS = [
    DDIMScheduler,
    DDPMScheduler,
    PNDMScheduler,
    EulerDiscreteScheduler,
    EulerAncestralDiscreteScheduler,
    LMSDiscreteScheduler,
    DPMSolverMultistepScheduler,
    UniPCMultistepScheduler,
]


def family_of(pipeline: Any) -> Family:
    return FAMILIES[type(pipeline).__name__](pipeline)


def with_scheduler(pipeline: Any, kind: Any, **options: Any) -> Any:
    if pipeline.scheduler.config.get("rescale_betas_zero_snr"):
        options.setdefault("rescale_betas_zero_snr", False)
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **options)
    return pipeline


def official(pipeline: Any, settings: Settings, output_type: str) -> Any:
    """Latents as a tensor, or a list of PIL images."""
    return pipeline(
        PROMPTS,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        height=settings.height,
        width=settings.width,
        negative_prompt=[settings.negative_prompt] * 2 if settings.negative_prompt else None,
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
        output_type=output_type,
    ).images


def full(family: Family, settings: Settings) -> State:
    conditioning = family.encode(PROMPTS, settings)
    noise = family.draw_noise(SEEDS, settings)
    return family.denoise(noise, conditioning, settings, settings.steps)
