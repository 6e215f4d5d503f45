"""FLUX.1: joint attention, then single-stream blocks, the text's tokens (T5) first in both.

The pooled CLIP output has no place in attention. Guidance is distilled: the model is told the
scale, each step is one evaluation, there is no unconditional half and so no guidance gap; a
negative prompt is refused. Latents are packed, 2 x 2 to a token, around each evaluation only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import FluxPipeline
from einops import rearrange
from torch import Tensor, nn

from promptprobe.probe.capture import Layout
from promptprobe.probe.families.pipeline import (
    PipelineFamily,
    blocks,
    conditioned,
    normed,
    rotated,
)
from promptprobe.probe.family import Conditioning, Latents, Settings
from promptprobe.probe.schedulers import even_sigmas, flow_shift
from promptprobe.probe.self_check import Given, Reference
from promptprobe.probe.words import locate

TOKENS = 512
"""Of T5, as many as the official pipeline reads."""


class Flux(PipelineFamily):
    kind = FluxPipeline
    known_as = "FLUX.1"
    layout = Layout("first", patch=2)
    flow = True

    @property
    def denoiser(self) -> Any:
        return self.pipeline.transformer

    def layers(self) -> Mapping[str, nn.Module]:
        return blocks(self.denoiser, "transformer_blocks", "attn") | blocks(
            self.denoiser, "single_transformer_blocks", "attn"
        )

    def reference(self, layer: Any, given: Given, text: int, image: int) -> Reference:
        cos, sin = given["image_rotary_emb"]  # every value twice, once for each of a pair
        turns = torch.complex(cos[:, ::2], sin[:, ::2])
        rows, words = given["hidden_states"], given.get("encoder_hidden_states")
        if words is None:  # a single-stream block
            words, rows = rows[:, :text], rows[:, text:]
            key = normed(layer.norm_k, layer.to_k(words), layer.heads)
        else:
            key = normed(layer.norm_added_k, layer.add_k_proj(words), layer.heads)
        return Reference(
            rotated(normed(layer.norm_q, layer.to_q(rows), layer.heads), turns[text:]),
            rotated(key, turns[:text]),
            rotated(normed(layer.norm_k, layer.to_k(rows), layer.heads), turns[text:]),
        )

    def guided(self, settings: Settings) -> bool:
        return False

    def _encode(self, prompts: Sequence[str], settings: Settings) -> Conditioning:
        if settings.negative_prompt:
            raise ValueError(
                "FLUX.1 takes no negative prompt: its guidance is distilled; leave it out"
            )
        rows, pooled, ids = self.pipeline.encode_prompt(
            list(prompts), device=self.device, max_sequence_length=TOKENS
        )
        tokenizer = self.pipeline.tokenizer_2
        texts = self.pipeline.maybe_convert_prompt(list(prompts), tokenizer)
        _, high, wide = self._latent_shape(settings)
        image_ids = self.pipeline._prepare_latent_image_ids(
            len(rows), high // 2, wide // 2, self.device, rows.dtype
        )
        guidance = None
        if self.denoiser.config.guidance_embeds:
            guidance = torch.full([len(rows)], settings.guidance, device=self.device)
        return conditioned(
            rows,
            [locate(tokenizer, text, last=TOKENS - 1, length=TOKENS) for text in texts],
            {
                "encoder_hidden_states": rows,
                "pooled_projections": pooled,
                "txt_ids": ids,
                "img_ids": image_ids,
                "guidance": guidance,
            },
        )

    def _evaluate(self, latents: Latents, timestep: Tensor, told: Mapping[str, Any]) -> Latents:
        times = timestep.expand(len(latents)).to(latents.dtype) / 1000
        with self.denoiser.cache_context("cond"):
            prediction = self.denoiser(
                hidden_states=packed(latents), timestep=times, **told, return_dict=False
            )[0]
        return unpacked(prediction, latents)

    @property
    def _dtype(self) -> torch.dtype:
        return self.pipeline.text_encoder_2.dtype

    @property
    def _channels(self) -> int:
        return int(self.denoiser.config.in_channels) // 4

    @property
    def default_size(self) -> tuple[int, int]:
        return (self.pipeline.default_sample_size * self.pipeline.vae_scale_factor,) * 2

    def _schedule(self, settings: Settings) -> dict[str, Any]:
        scheduler = self.pipeline.scheduler
        mu = flow_shift(scheduler, self.tokens(settings))
        return {"mu": mu, **even_sigmas(scheduler, settings.steps)}


def packed(latents: Latents) -> Tensor:
    """2 x 2 latents to a token: [batch, token, 4 x channel]."""
    return rearrange(latents, "b c (row p) (col q) -> b (row col) (c p q)", p=2, q=2)


def unpacked(tokens: Tensor, like: Latents) -> Latents:
    """The tokens of `packed` as latents again, shaped as `like`."""
    grid = {"row": like.shape[2] // 2, "p": 2, "q": 2}
    return rearrange(tokens, "b (row col) (c p q) -> b c (row p) (col q)", **grid)
