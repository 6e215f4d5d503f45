"""The family of SDXL: Stable Diffusion's loop, told by two text encoders and the picture's size.

Both encoders read the same tokens, and their outputs stand side by side, so a word keeps its
places. A refiner, which has the second encoder alone, is refused. As in the official pipeline, an
empty negative prompt is no prompt (zeros, where the model was trained so), and a VAE in float16
that asks for it decodes in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from jaxtyping import Float
from torch import Tensor

from promptprobe.probe.family import Images, Latents, Settings
from promptprobe.probe.stable_diffusion import StableDiffusion


class StableDiffusionXL(StableDiffusion):
    """The verbs of `Family` for a loaded SDXL base pipeline; raises as `StableDiffusion` does."""

    kind = StableDiffusionXLPipeline
    known_as = "SDXL base"
    addition = "text_time"

    @torch.no_grad()
    def decode_checked(self, latents: Latents) -> tuple[Images, tuple[bool, ...]]:
        image, watermark = self._decode(latents), self.pipeline.watermark
        if watermark is not None:
            image = watermark.apply_watermark(image)
        return self._pixels(image, [True] * len(latents)), (False,) * len(latents)

    def _embed(
        self, prompts: Sequence[str], settings: Settings
    ) -> tuple[Float[Tensor, "sample token dim"], dict[str, Tensor]]:
        guided = settings.guidance > 1
        negative = [settings.negative_prompt] * len(prompts) if settings.negative_prompt else None
        conditional, unconditional, pooled, unconditional_pooled = self.pipeline.encode_prompt(
            list(prompts),
            device=self.device,
            do_classifier_free_guidance=guided,
            negative_prompt=negative if guided else None,
        )
        if guided:
            conditional = torch.cat([unconditional, conditional])
            pooled = torch.cat([unconditional_pooled, pooled])
        size = settings.height, settings.width
        times = self.pipeline._get_add_time_ids(
            size,
            (0, 0),
            size,
            dtype=conditional.dtype,
            text_encoder_projection_dim=self.pipeline.text_encoder_2.config.projection_dim,
        )
        times = times.to(self.device).repeat(len(pooled), 1)
        return conditional, {"text_embeds": pooled, "time_ids": times}

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.pipeline.text_encoder_2.dtype
        return dtype

    def _decode(self, latents: Latents) -> Float[Tensor, "batch 3 height width"]:
        vae = self.pipeline.vae
        before = vae.dtype
        raised = before == torch.float16 and vae.config.force_upcast
        try:
            if raised:
                vae.to(torch.float32)
            return super()._decode(latents)
        finally:
            if raised:
                vae.to(before)

    def _unscaled(self, latents: Latents) -> Latents:
        """By the VAE's mean and deviation where it has both, too."""
        config = self.pipeline.vae.config
        mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
        if mean is None or std is None:
            return super()._unscaled(latents)
        mean, std = (torch.tensor(x).view(1, -1, 1, 1).to(latents) for x in (mean, std))
        return latents * std / config.scaling_factor + mean

    def _check(self, pipeline: Any) -> None:
        super()._check(pipeline)
        if pipeline.text_encoder is None or pipeline.text_encoder_2 is None:
            raise ValueError("a text encoder is missing: expected SDXL base, not its refiner")

    def _added_to_try(self, placed: dict[str, Any]) -> dict[str, Tensor]:
        pooled = self.pipeline.text_encoder_2.config.projection_dim
        return {
            "text_embeds": torch.zeros(1, pooled, **placed),
            "time_ids": torch.zeros(1, 6, **placed),
        }
