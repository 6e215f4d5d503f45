"""FLUX.1: joint attention, then single-stream blocks, with the text's (T5) tokens first in both.

The pooled CLIP output takes no part in attention. Guidance is distilled: the model takes the scale
as an input, so each step is one evaluation, there is no unconditional half or guidance gap, and a
negative prompt is refused. Latents are packed, 2 x 2 to a token, around each evaluation only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import FluxPipeline
from torch import nn

from promptprobe.probe.families.dit.packed import Packed
from promptprobe.probe.families.family import Conditioning, Settings
from promptprobe.probe.families.modules import joint_and_single, normed, rotated
from promptprobe.probe.families.self_check import Given, Reference
from promptprobe.probe.families.token_alignment import align_words, conditioned

TOKENS = 512
"""Tokens of T5 that the official pipeline reads."""


class Flux(Packed):
    kind = FluxPipeline
    known_as = "FLUX.1"
    takes = ("max_sequence_length",)

    def layers(self) -> Mapping[str, nn.Module]:
        return joint_and_single(self.denoiser)

    def reference(self, layer: Any, given: Given, text: int, image: int) -> Reference:
        cos, sin = given["image_rotary_emb"]  # every value is repeated, once for each of a pair
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
                "FLUX.1 takes no negative prompt, as its guidance is distilled; leave it out"
            )
        tokens = settings.text_tokens(TOKENS)
        rows, pooled, ids = self.pipeline.encode_prompt(
            list(prompts), device=self.device, max_sequence_length=tokens
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
            [align_words(tokenizer, text, last=tokens - 1) for text in texts],
            {
                "encoder_hidden_states": rows,
                "pooled_projections": pooled,
                "txt_ids": ids,
                "img_ids": image_ids,
                "guidance": guidance,
            },
        )

    @property
    def _dtype(self) -> torch.dtype:
        return self.pipeline.text_encoder_2.dtype
