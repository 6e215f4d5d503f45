"""What the tests of families, schedulers and states share: settings, and the official pipeline."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)

from promptprobe.probe.families import family_of
from promptprobe.probe.families.dit.packed import unpacked
from promptprobe.probe.families.family import Family, Settings, State

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
    LCMScheduler,
    TCDScheduler,
]
FLOW_SCHEDULERS = [DPMSolverMultistepScheduler, UniPCMultistepScheduler]
"""Which make flow sigmas too."""


def fit(pipeline: Any, settings: Settings) -> Settings:
    """The same without a negative prompt, which FLUX does not take."""
    return replace(settings, negative_prompt="") if "Flux" in type(pipeline).__name__ else settings


def with_scheduler(pipeline: Any, kind: Any, **options: Any) -> Any:
    if pipeline.scheduler.config.get("rescale_betas_zero_snr"):
        options.setdefault("rescale_betas_zero_snr", False)
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **options)
    return pipeline


def official(pipeline: Any, settings: Settings, output_type: str) -> Any:
    """Latents [batch channel row col], or a list of PIL images, from the pipeline's own call."""
    accepted = inspect.signature(type(pipeline).__call__).parameters
    guidance = "true_cfg_scale" if "Qwen" in type(pipeline).__name__ else "guidance_scale"
    options: dict[str, Any] = {guidance: settings.guidance}
    if settings.negative_prompt or guidance == "true_cfg_scale":
        options["negative_prompt"] = [settings.negative_prompt] * 2
    options |= settings.extra.given
    if "use_resolution_binning" in accepted:
        options["use_resolution_binning"] = False
    last: list[torch.Tensor] = []

    def keep(_: Any, step: int, timestep: Any, found: dict[str, Any]) -> dict[str, Any]:
        last[:] = [found["latents"]]
        return found

    made = pipeline(
        prompt=list(PROMPTS),  # Z-Image writes its templates into the list that it is given
        num_inference_steps=settings.steps,
        height=settings.height,
        width=settings.width,
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
        output_type=output_type,
        callback_on_step_end=keep,
        **options,
    ).images
    if output_type == "latent" and "Flux2" in type(pipeline).__name__:
        # It hands them out as its VAE takes them; before that, they are tokens of 2 x 2.
        return unpacked(last[0], made)
    if output_type == "latent" and hasattr(pipeline, "_unpack_latents"):
        size = settings.height, settings.width, pipeline.vae_scale_factor
        made = pipeline._unpack_latents(made, *size)
        made = made.flatten(1, 2) if made.ndim == 5 else made  # Qwen-Image: a film of one frame
    return made


def full(family: Family, settings: Settings) -> State:
    conditioning = family.encode(PROMPTS, settings)
    noise = family.draw_noise(SEEDS, settings)
    return family.denoise(noise, conditioning, settings, settings.steps)


__all__ = [
    "FLOW_SCHEDULERS",
    "PROMPTS",
    "SCHEDULERS",
    "SEEDS",
    "SETTINGS",
    "family_of",
    "fit",
    "full",
    "official",
    "with_scheduler",
]
