"""PixArt-Sigma: a transformer over patches with cross-attention to T5; padding is masked.

As in the official pipeline, the prompt is cleaned and the learned variance is dropped. Images are
generated at the requested size: the official pipeline's `use_resolution_binning`, which generates
the nearest trained size and resizes, is not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import PixArtSigmaPipeline
from diffusers.utils import is_bs4_available, is_ftfy_available
from torch import Tensor

from promptprobe.probe.capture.capture import Layout
from promptprobe.probe.families.family import Conditioning, Latents, Settings
from promptprobe.probe.families.pipeline import PipelineFamily
from promptprobe.probe.families.token_alignment import align_words, conditioned

TOKENS = 300
"""Tokens that the official pipeline reads."""
CLEANED = is_bs4_available() and is_ftfy_available()
"""Whether captions are cleaned; without these libraries the official pipeline lowercases them."""


class PixArtSigma(PipelineFamily):
    kind = PixArtSigmaPipeline
    known_as = "PixArt-Sigma"
    layout = Layout("apart", patch=2)
    flow = False
    takes = ("eta", "max_sequence_length")

    def _encode(self, prompts: Sequence[str], settings: Settings) -> Conditioning:
        guided, tokens = self.guided(settings), settings.text_tokens(TOKENS)
        rows, mask, unconditional, unconditional_mask = self.pipeline.encode_prompt(
            list(prompts),
            guided,
            negative_prompt=settings.negative_prompt,
            device=self.device,
            clean_caption=CLEANED,
            max_sequence_length=tokens,
        )
        texts = self.pipeline._text_preprocessing(list(prompts), clean_caption=CLEANED)
        located = [align_words(self.pipeline.tokenizer, text, last=tokens - 1) for text in texts]
        cond = rows
        if guided:
            cond, mask = torch.cat([unconditional, rows]), torch.cat([unconditional_mask, mask])
        return conditioned(
            rows, located, {"encoder_hidden_states": cond, "encoder_attention_mask": mask}
        )

    def _evaluate(self, latents: Latents, timestep: Tensor, cond: Mapping[str, Any]) -> Latents:
        prediction: Tensor = self.denoiser(
            latents,
            timestep=timestep.expand(len(latents)),
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            **cond,
            return_dict=False,
        )[0]
        return prediction[:, : self._channels]
