"""Stable Diffusion 3 and 3.5: joint attention with the image's tokens before the text's.

The outputs of two CLIP encoders are concatenated along channels, and T5's tokens follow them, so a
word has tokens in both. Without T5 its tokens are zeros, and words have only CLIP's tokens. Padding
takes a share of attention like any token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline
from torch import Tensor, nn

from promptprobe.probe.capture.capture import Layout
from promptprobe.probe.families.family import Conditioning, Latents, Settings
from promptprobe.probe.families.modules import blocks, normed
from promptprobe.probe.families.pipeline import PipelineFamily
from promptprobe.probe.families.schedulers import flow_shift
from promptprobe.probe.families.self_check import Given, Reference
from promptprobe.probe.families.token_alignment import (
    AlignedWords,
    align_words,
    behind,
    conditioned,
)

TOKENS = 256
"""Tokens of T5 that the official pipeline reads."""


class StableDiffusion3(PipelineFamily):
    kind = StableDiffusion3Pipeline
    known_as = "Stable Diffusion 3 or 3.5"
    layout = Layout("last", patch=2)
    flow = True
    takes = ("clip_skip", "max_sequence_length")

    def layers(self) -> Mapping[str, nn.Module]:
        return blocks(self.denoiser, "transformer_blocks", "attn")

    def reference(self, layer: Any, given: Given, text: int, image: int) -> Reference:
        rows, words = given["hidden_states"], given["encoder_hidden_states"]
        return Reference(
            normed(layer.norm_q, layer.to_q(rows), layer.heads),
            normed(layer.norm_added_k, layer.add_k_proj(words), layer.heads),
            normed(layer.norm_k, layer.to_k(rows), layer.heads),
        )

    def _encode(self, prompts: Sequence[str], settings: Settings) -> Conditioning:
        guided, prompts = self.guided(settings), list(prompts)
        rows, unconditional, pooled, unconditional_pooled = self.pipeline.encode_prompt(
            prompts, prompts, prompts,
            device=self.device,
            do_classifier_free_guidance=guided,
            negative_prompt=[settings.negative_prompt] * len(prompts) if guided else None,
            clip_skip=settings.extra.clip_skip,
            max_sequence_length=settings.text_tokens(TOKENS),
        )  # fmt: skip
        cond = rows
        if guided:
            cond = torch.cat([unconditional, rows])
            pooled = torch.cat([unconditional_pooled, pooled])
        return conditioned(
            rows,
            [self._located(prompt, settings) for prompt in prompts],
            {"encoder_hidden_states": cond, "pooled_projections": pooled},
        )

    def _located(self, prompt: str, settings: Settings) -> AlignedWords:
        most = self.pipeline.tokenizer_max_length
        clip = align_words(self.pipeline.tokenizer, prompt, last=most - 1)
        if self.pipeline.text_encoder_3 is None:
            return behind(clip, AlignedWords((), clip.cut), most)
        tokens = settings.text_tokens(TOKENS)
        t5 = align_words(self.pipeline.tokenizer_3, prompt, last=tokens - 1)
        return behind(clip, t5, most)

    def _evaluate(self, latents: Latents, timestep: Tensor, cond: Mapping[str, Any]) -> Latents:
        prediction: Tensor = self.denoiser(
            hidden_states=latents, timestep=timestep.expand(len(latents)), **cond, return_dict=False
        )[0]
        return prediction

    def _schedule(self, settings: Settings) -> dict[str, Any]:
        scheduler = self.pipeline.scheduler
        if not scheduler.config.get("use_dynamic_shifting"):
            return {}
        return {"mu": flow_shift(scheduler, self.tokens(settings), most=1.16)}
