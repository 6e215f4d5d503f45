"""Qwen-Image: joint attention, text first; a language model reads the prompt in a template.

The template's first tokens are dropped and its last ones kept, without counting as words; padding
is masked. Guidance is a second call of the denoiser with the negative prompt (encoded as "" if
empty); the guided prediction is scaled to the norm of the conditional one, token by token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import QwenImagePipeline
from torch import Tensor, nn

from promptprobe.probe.families.dit.packed import Packed, packed, unpacked
from promptprobe.probe.families.family import Conditioning, Latents, Settings
from promptprobe.probe.families.modules import blocks, normed, rotated
from promptprobe.probe.families.self_check import Given, Reference
from promptprobe.probe.families.token_alignment import AlignedWords, align_words, conditioned

TOKENS = 512
"""Tokens that the official pipeline keeps, including the template's last ones."""


class QwenImage(Packed):
    kind = QwenImagePipeline
    takes = ("max_sequence_length",)
    known_as = "Qwen-Image"
    guidance_name = "true_cfg_scale"

    def layers(self) -> Mapping[str, nn.Module]:
        return blocks(self.denoiser, "transformer_blocks", "attn")

    def reference(self, layer: Any, given: Given, text: int, image: int) -> Reference:
        rows, words = given["hidden_states"], given["encoder_hidden_states"]
        image_turns, text_turns = given["image_rotary_emb"]
        mask = given.get("encoder_hidden_states_mask")
        if mask is not None:
            mask = torch.cat([mask.bool(), torch.ones_like(rows[..., 0], dtype=torch.bool)], 1)
        return Reference(
            rotated(normed(layer.norm_q, layer.to_q(rows), layer.heads), image_turns),
            rotated(normed(layer.norm_added_k, layer.add_k_proj(words), layer.heads), text_turns),
            rotated(normed(layer.norm_k, layer.to_k(rows), layer.heads), image_turns),
            mask,
        )

    def _encode(self, prompts: Sequence[str], settings: Settings) -> Conditioning:
        rows, cond = self._cond(prompts, settings)
        uncond = None
        if self.guided(settings):
            _, uncond = self._cond([settings.negative_prompt] * len(prompts), settings)
        located = [self._located(prompt, settings) for prompt in prompts]
        return conditioned(rows, located, cond, uncond)

    def _cond(self, prompts: Sequence[str], settings: Settings) -> tuple[Tensor, dict[str, Any]]:
        rows, mask = self.pipeline.encode_prompt(
            list(prompts), device=self.device, max_sequence_length=settings.text_tokens(TOKENS)
        )
        _, high, wide = self._latent_shape(settings)
        return rows, {
            "encoder_hidden_states": rows,
            "encoder_hidden_states_mask": mask,
            "img_shapes": [[(1, high // 2, wide // 2)]] * len(rows),
        }

    def _located(self, prompt: str, settings: Settings) -> AlignedWords:
        before, after = self.pipeline.prompt_template_encode.split("{}")
        return align_words(
            self.pipeline.tokenizer,
            before + prompt + after,
            last=settings.text_tokens(TOKENS),
            prompt=slice(len(before), len(before) + len(prompt)),
            dropped=self.pipeline.prompt_template_encode_start_idx,
        )

    def _rescaled(self, guided: Latents, conditional: Latents) -> Latents:
        """Give each token the norm that it has in the conditional prediction."""
        tokens = packed(guided)
        wanted, found = (
            torch.norm(rows, dim=-1, keepdim=True) for rows in (packed(conditional), tokens)
        )
        return unpacked(tokens * (wanted / found), guided)

    def _decode(self, latents: Latents) -> Tensor:
        """Decode with the video VAE and take the only frame."""
        vae = self.pipeline.vae
        video: Tensor = vae.decode(self._unscaled(latents.to(vae.dtype)), return_dict=False)[0]
        return video[:, :, 0]

    def _unscaled(self, latents: Latents) -> Tensor:
        config = self.pipeline.vae.config
        mean, std = (
            torch.tensor(values).view(1, -1, 1, 1, 1).to(latents)
            for values in (config.latents_mean, config.latents_std)
        )
        unscaled: Tensor = latents[:, :, None] / (1.0 / std) + mean
        return unscaled

    def _check(self) -> None:
        if self.denoiser.config.guidance_embeds:
            raise ValueError(
                "a guidance-distilled Qwen-Image is not supported: expected the plain one"
            )
