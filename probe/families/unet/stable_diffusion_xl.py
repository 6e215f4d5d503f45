"""SDXL: Stable Diffusion's loop, conditioned on two text encoders and the picture's size.

Both encoders read the same tokens, and their outputs are concatenated along channels, so a word's
token indices are the same. A refiner, which has only the second encoder, is refused. As in the
official pipeline, an empty negative prompt is passed as None (zeros, if the model was trained that
way), and a float16 VAE with `force_upcast` decodes in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from jaxtyping import Float
from torch import Tensor

from promptprobe.probe.families.family import Conditioning, Latents, Settings
from promptprobe.probe.families.token_alignment import conditioned
from promptprobe.probe.families.unet.stable_diffusion import StableDiffusion


class StableDiffusionXL(StableDiffusion):
    kind = StableDiffusionXLPipeline
    known_as = "SDXL base"
    addition = "text_time"
    takes = ("guidance_rescale", "clip_skip", "eta")

    def _encode(self, prompts: Sequence[str], settings: Settings) -> Conditioning:
        guided = self.guided(settings)
        negative = [settings.negative_prompt] * len(prompts) if settings.negative_prompt else None
        rows, unconditional, pooled, unconditional_pooled = self.pipeline.encode_prompt(
            list(prompts),
            device=self.device,
            do_classifier_free_guidance=guided,
            negative_prompt=negative if guided else None,
            clip_skip=settings.extra.clip_skip,
        )
        cond = rows
        if guided:
            cond = torch.cat([unconditional, rows])
            pooled = torch.cat([unconditional_pooled, pooled])
        added = {"text_embeds": pooled, "time_ids": self._times(settings, len(cond), rows.dtype)}
        return conditioned(
            rows,
            self._located(prompts),
            {"encoder_hidden_states": cond, "added_cond_kwargs": added},
        )

    def _times(self, settings: Settings, count: int, dtype: torch.dtype) -> Tensor:
        """Size, crop and target size, which the UNet embeds."""
        size = settings.height, settings.width
        width: Any = self.pipeline.text_encoder_2.config.projection_dim
        times: Tensor = self.pipeline._get_add_time_ids(
            size, (0, 0), size, dtype=dtype, text_encoder_projection_dim=width
        )
        return times.to(self.device).repeat(count, 1)

    @property
    def _dtype(self) -> torch.dtype:
        return self.pipeline.text_encoder_2.dtype

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

    def _unscaled(self, latents: Latents) -> Tensor:
        """Also applies the VAE's mean and standard deviation, if it has both."""
        config = self.pipeline.vae.config
        mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
        if mean is None or std is None:
            return super()._unscaled(latents)
        mean, std = (torch.tensor(x).view(1, -1, 1, 1).to(latents) for x in (mean, std))
        return latents * std / config.scaling_factor + mean

    def _checked(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch 3 height width"], list[bool]]:
        watermark = self.pipeline.watermark
        if watermark is not None:
            image = watermark.apply_watermark(image)
        return image, [False] * len(image)

    def _check(self) -> None:
        super()._check()
        if self.pipeline.text_encoder is None or self.pipeline.text_encoder_2 is None:
            raise ValueError("a text encoder is missing: expected SDXL base, not its refiner")
