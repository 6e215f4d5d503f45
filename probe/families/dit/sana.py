"""Sana: linear attention over the image, and plain cross-attention to a language model (Gemma).

The official pipeline encodes an instruction followed by the prompt, and keeps the first token and
the last 299; the prompt's words are among these. Text is lowercased, latents are float32 whatever
the transformer's dtype, and images are generated at the requested size, as with PixArt-Sigma.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import SanaPipeline
from torch import Tensor

from promptprobe.probe.capture.capture import Layout
from promptprobe.probe.families.family import Conditioning, Latents, Settings
from promptprobe.probe.families.pipeline import PipelineFamily
from promptprobe.probe.families.token_alignment import AlignedWords, align_words, conditioned

_OFFICIAL = inspect.signature(SanaPipeline.__call__).parameters
TOKENS: int = _OFFICIAL["max_sequence_length"].default
"""Text tokens that the denoiser sees."""
INSTRUCTION: list[str] = _OFFICIAL["complex_human_instruction"].default
"""What the language model reads before the prompt, but not before the negative prompt."""


class Sana(PipelineFamily):
    kind = SanaPipeline
    takes = ("max_sequence_length",)
    known_as = "Sana"
    layout = Layout("apart", patch=1)
    flow = True

    def _encode(self, prompts: Sequence[str], settings: Settings) -> Conditioning:
        guided, tokens = self.guided(settings), settings.text_tokens(TOKENS)
        rows, mask, unconditional, unconditional_mask = self.pipeline.encode_prompt(
            list(prompts),
            guided,
            negative_prompt=settings.negative_prompt,
            device=self.device,
            max_sequence_length=tokens,
            complex_human_instruction=INSTRUCTION,
        )
        cond = rows
        if guided:
            cond, mask = torch.cat([unconditional, rows]), torch.cat([unconditional_mask, mask])
        texts = self.pipeline._text_preprocessing(list(prompts))
        return conditioned(
            rows,
            [self._located(text, tokens) for text in texts],
            {
                "encoder_hidden_states": cond.to(self.denoiser.dtype),
                "encoder_attention_mask": mask,
            },
        )

    def _located(self, prompt: str, tokens: int) -> AlignedWords:
        tokenizer, before = self.pipeline.tokenizer, "\n".join(INSTRUCTION)
        # The instruction's last token is the one kept after the first token.
        dropped = len(tokenizer.encode(before)) - 2
        return align_words(
            tokenizer,
            before + prompt,
            last=tokens,
            prompt=slice(len(before), None),
            dropped=dropped,
        )

    def _evaluate(self, latents: Latents, timestep: Tensor, cond: Mapping[str, Any]) -> Latents:
        prediction: Tensor = self.denoiser(
            latents.to(self.denoiser.dtype),
            timestep=timestep.expand(len(latents)) * self.denoiser.config.timestep_scale,
            **cond,
            return_dict=False,
        )[0]
        return prediction.float()[:, : self._channels]

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float32

    def _unscaled(self, latents: Latents) -> Tensor:
        unscaled: Tensor = latents / self.pipeline.vae.config.scaling_factor
        return unscaled
