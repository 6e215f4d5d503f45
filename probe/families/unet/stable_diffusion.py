"""Stable Diffusion 1.x and 2.x: a UNet with cross-attention to one CLIP text encoder.

As in the official pipeline, latents are divided by the VAE's scaling factor without a shift, and
the safety checker, if there is one, blacks out images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import StableDiffusionPipeline
from jaxtyping import Float
from torch import Tensor

from promptprobe.probe.capture.capture import Layout
from promptprobe.probe.families.family import Conditioning, Latents, Settings
from promptprobe.probe.families.pipeline import PipelineFamily
from promptprobe.probe.families.token_alignment import AlignedWords, align_words, conditioned


class StableDiffusion(PipelineFamily):
    kind = StableDiffusionPipeline
    known_as = "Stable Diffusion 1.x or 2.x"
    layout = Layout("apart")
    flow = False
    part = "unet"
    # Its clip_skip uses a part of CLIP that transformers 5 no longer has.
    takes: ClassVar[tuple[str, ...]] = ("guidance_rescale", "eta")
    addition: str | None = None
    """The UNet's `addition_embed_type`: what it takes in addition to text and time."""

    def _encode(self, prompts: Sequence[str], settings: Settings) -> Conditioning:
        guided = self.guided(settings)
        negative = [settings.negative_prompt] * len(prompts) if guided else None
        rows, unconditional = self.pipeline.encode_prompt(
            list(prompts), self.device, 1, guided, negative
        )
        cond = torch.cat([unconditional, rows]) if guided else rows
        return conditioned(rows, self._located(prompts), {"encoder_hidden_states": cond})

    def _evaluate(self, latents: Latents, timestep: Tensor, cond: Mapping[str, Any]) -> Latents:
        prediction: Tensor = self.denoiser(latents, timestep, **cond, return_dict=False)[0]
        return prediction

    def _located(self, prompts: Sequence[str]) -> list[AlignedWords]:
        """Words among CLIP's tokens: a start token, the text, and end tokens as end and padding."""
        tokenizer = self.pipeline.tokenizer
        texts = self.pipeline.maybe_convert_prompt(list(prompts), tokenizer)
        last = tokenizer.model_max_length - 1
        return [align_words(tokenizer, text, last=last) for text in texts]

    def _checked(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch 3 height width"], list[bool]]:
        image, flagged = self.pipeline.run_safety_checker(image, self.device, self._dtype)
        return image, [False] * len(image) if flagged is None else list(map(bool, flagged))

    def _check(self) -> None:
        unet, vae = self.denoiser.config, self.pipeline.vae.config
        if unet.in_channels != vae.latent_channels:
            raise ValueError(
                f"the UNet takes {unet.in_channels} channels and the VAE gives "
                f"{vae.latent_channels}: expected a plain text-to-image model (inpainting and "
                "editing models are not supported)"
            )
        for name, expected in (
            ("time_cond_proj_dim", None),
            ("encoder_hid_dim_type", None),
            ("addition_embed_type", self.addition),
        ):
            if getattr(unet, name, None) != expected:
                raise ValueError(
                    f"the UNet has {name} = {getattr(unet, name)!r}: expected {expected!r}, as in "
                    f"{self.known_as} (no IP-Adapter, no distilled guidance)"
                )
