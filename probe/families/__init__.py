"""The families: what promptprobe knows about each kind of pipeline, with one file for each kind.

docs/families.md explains how to add one. Nothing heavy is imported until a family is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptprobe.probe.families.family import Family

FAMILIES = {
    "StableDiffusionPipeline": ("unet.stable_diffusion", "StableDiffusion"),
    "StableDiffusionXLPipeline": ("unet.stable_diffusion_xl", "StableDiffusionXL"),
    "StableDiffusion3Pipeline": ("dit.stable_diffusion_3", "StableDiffusion3"),
    "FluxPipeline": ("dit.flux", "Flux"),
    "Flux2KleinPipeline": ("dit.flux_2", "Flux2Klein"),
    "QwenImagePipeline": ("dit.qwen_image", "QwenImage"),
    "ZImagePipeline": ("dit.z_image", "ZImage"),
    "PixArtSigmaPipeline": ("dit.pixart_sigma", "PixArtSigma"),
    "SanaPipeline": ("dit.sana", "Sana"),
}
"""Module and class by the pipeline's class name, which `model_index.json` calls `_class_name`."""

CARRIED: dict[str, tuple[str, ...]] = {
    "DDIMScheduler": (),
    "DDPMScheduler": (),
    "PNDMScheduler": ("ets", "cur_sample", "cur_model_output", "counter"),
    "EulerDiscreteScheduler": ("_step_index", "is_scale_input_called"),
    "EulerAncestralDiscreteScheduler": ("_step_index", "is_scale_input_called"),
    "LMSDiscreteScheduler": ("_step_index", "is_scale_input_called", "derivatives"),
    "LCMScheduler": ("_step_index",),
    "TCDScheduler": ("_step_index",),
    "DPMSolverMultistepScheduler": ("_step_index", "model_outputs", "lower_order_nums"),
    "FlowMatchEulerDiscreteScheduler": ("_step_index",),
    "UniPCMultistepScheduler": (
        "_step_index",
        "model_outputs",
        "timestep_list",
        "lower_order_nums",
        "last_sample",
        "this_order",
    ),
}
"""Attributes of each scheduler that change while it steps. No other scheduler is accepted."""

KNOWN_AS = (
    "Stable Diffusion (1.x to 3.5, XL), FLUX.1, FLUX.2 [klein], Qwen-Image, Z-Image, Sana or "
    "PixArt-Sigma"
)
"""The families by their common names."""


def check_known(class_name: str, source: str) -> None:
    """Raise ValueError, listing the supported pipelines, for one that no family supports."""
    if class_name not in FAMILIES:
        raise ValueError(
            f"{source} is a {class_name[:80]}, which promptprobe does not support; supported: "
            f"{', '.join(FAMILIES)}. docs/families.md explains how to add one"
        )


def family_of(pipeline: Any) -> Family:
    """The family of a loaded pipeline.

    Raises TypeError or ValueError for a pipeline or a variant that is not supported, and
    CaptureError if its attention cannot be read.
    """
    name = type(pipeline).__name__
    check_known(name, "the pipeline")
    module, kind = FAMILIES[name]
    family: Family = getattr(import_module(f"{__name__}.{module}"), kind)(pipeline)
    return family
