"""FLUX.2 [klein]: joint attention, then single-stream blocks with fused projections.

The text's tokens come first in both; a language model reads the prompt in a chat template, and only
the prompt's words are content words. The official pipeline draws noise and normalizes latents with
2 x 2 of them in a token; here they are unpacked, as with FLUX.1, and packed around each evaluation.
The base model is guided by a second call with an empty prompt, the distilled one is not guided;
neither takes a negative prompt.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers import Flux2KleinPipeline
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from torch import Tensor, nn

from promptprobe.probe.families.dit.packed import Packed
from promptprobe.probe.families.family import Conditioning, Latents, Settings, State
from promptprobe.probe.families.modules import joint_and_single, normed, rotated
from promptprobe.probe.families.schedulers import even_sigmas
from promptprobe.probe.families.self_check import Given, Reference
from promptprobe.probe.families.token_alignment import align_in_chat, conditioned

TOKENS: int = (
    inspect.signature(Flux2KleinPipeline.__call__).parameters["max_sequence_length"].default
)
"""Tokens that the official pipeline reads, including the template."""


class Flux2Klein(Packed):
    kind = Flux2KleinPipeline
    takes = ("max_sequence_length",)
    known_as = "FLUX.2 [klein]"

    def layers(self) -> Mapping[str, nn.Module]:
        return joint_and_single(self.denoiser)

    def reference(self, layer: Any, given: Given, text: int, image: int) -> Reference:
        cos, sin = given["image_rotary_emb"]  # every value is repeated, once for each of a pair
        turns = torch.complex(cos[:, ::2], sin[:, ::2])
        rows, words = given["hidden_states"], given.get("encoder_hidden_states")
        if words is None:  # a single-stream block
            query, key, _ = layer.to_qkv_mlp_proj(rows)[..., : 3 * layer.inner_dim].chunk(3, -1)
            query = normed(layer.norm_q, query[:, text:], layer.heads)
            keys = normed(layer.norm_k, key, layer.heads)
        else:
            query = normed(layer.norm_q, layer.to_q(rows), layer.heads)
            text_keys = normed(layer.norm_added_k, layer.add_k_proj(words), layer.heads)
            keys = torch.cat([text_keys, normed(layer.norm_k, layer.to_k(rows), layer.heads)], 1)
        keys = rotated(keys, turns)
        return Reference(rotated(query, turns[text:]), keys[:, :text], keys[:, text:])

    def guided(self, settings: Settings) -> bool:
        return settings.guidance > 1 and not self.pipeline.config.is_distilled

    def draw_noise(self, seeds: Sequence[int], settings: Settings) -> State:
        state = super().draw_noise(seeds, settings)
        batch, channels, height, width = state.latents.shape
        noise = state.latents.reshape(batch, 4 * channels, height // 2, width // 2)
        return replace(state, latents=self.pipeline._unpatchify_latents(noise))

    def _encode(self, prompts: Sequence[str], settings: Settings) -> Conditioning:
        if settings.negative_prompt:
            raise ValueError(f"{self.known_as} takes no negative prompt: leave it out")
        rows, cond = self._cond(prompts, settings)
        uncond = None
        if self.guided(settings):
            _, uncond = self._cond([""] * len(prompts), settings)
        tokenizer, last = self.pipeline.tokenizer, settings.text_tokens(TOKENS)
        located = [align_in_chat(tokenizer, one, last=last, thinking=False) for one in prompts]
        return conditioned(rows, located, cond, uncond)

    def _cond(self, prompts: Sequence[str], settings: Settings) -> tuple[Tensor, dict[str, Any]]:
        rows, text_ids = self.pipeline.encode_prompt(
            list(prompts), device=self.device, max_sequence_length=settings.text_tokens(TOKENS)
        )
        _, height, width = self._latent_shape(settings)
        image = torch.empty(len(rows), 0, height // 2, width // 2)
        image_ids = self.pipeline._prepare_latent_ids(image).to(self.device)
        return rows, {"encoder_hidden_states": rows, "txt_ids": text_ids, "img_ids": image_ids}

    def _evaluate(self, latents: Latents, timestep: Tensor, cond: Mapping[str, Any]) -> Latents:
        return super()._evaluate(latents.to(self.denoiser.dtype), timestep, cond)

    def _schedule(self, settings: Settings) -> dict[str, Any]:
        mu = compute_empirical_mu(self.tokens(settings), settings.steps)
        return {"mu": mu, **even_sigmas(self.pipeline.scheduler, settings.steps)}

    def _unscaled(self, latents: Latents) -> Tensor:
        vae = self.pipeline.vae
        mean = vae.bn.running_mean.view(1, -1, 1, 1).to(latents)
        variance = vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps
        rows = self.pipeline._patchify_latents(latents) * torch.sqrt(variance).to(latents) + mean
        unscaled: Tensor = self.pipeline._unpatchify_latents(rows)
        return unscaled
