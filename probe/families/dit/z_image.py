"""Z-Image: single-stream blocks with the image's tokens before the text's.

Image and text are each padded to a multiple of 32 with tokens that take a share of attention;
padding between samples of a batch is masked. A language model reads the prompt in a chat template,
which is kept, but only the prompt's words are content words. The conditional half comes first.
Guidance is conditional + scale x (conditional - unconditional), so any scale above 0 guides.
Latents are float32, whatever the transformer's dtype.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from diffusers import ZImagePipeline
from diffusers.models.transformers.transformer_z_image import SEQ_MULTI_OF
from diffusers.pipelines.z_image.pipeline_z_image import get_default_z_image_sigmas
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from promptprobe.probe.capture.capture import Layout
from promptprobe.probe.families.family import Conditioning, Latents, Settings
from promptprobe.probe.families.modules import blocks, normed, rotated
from promptprobe.probe.families.pipeline import PipelineFamily
from promptprobe.probe.families.schedulers import flow_shift
from promptprobe.probe.families.self_check import Given, Reference
from promptprobe.probe.families.token_alignment import align_in_chat, conditioned

TOKENS = 512
"""Tokens that the official pipeline reads, including the template."""
SIDE = 1024
"""The official pipeline's default height and width in pixels."""


class ZImage(PipelineFamily):
    kind = ZImagePipeline
    takes = ("max_sequence_length",)
    known_as = "Z-Image"
    layout = Layout("last", patch=2, multiple=SEQ_MULTI_OF, conditional="first")
    flow = True

    def layers(self) -> Mapping[str, nn.Module]:
        return blocks(self.denoiser, "layers", "attention")

    def reference(self, layer: Any, given: Given, text: int, image: int) -> Reference:
        rows, turns = given["hidden_states"], given["freqs_cis"]
        query = rotated(normed(layer.norm_q, layer.to_q(rows), layer.heads), turns)[:, :image]
        key = rotated(normed(layer.norm_k, layer.to_k(rows), layer.heads), turns)
        start = -(-image // SEQ_MULTI_OF) * SEQ_MULTI_OF
        places = torch.arange(rows.shape[1])
        words = (places >= start) & (places < start + text)
        mask = given.get("attention_mask")
        if mask is not None:
            mask = torch.cat([mask[:, words], mask[:, ~words]], 1)
        return Reference(query, key[:, words], key[:, ~words], mask)

    def guided(self, settings: Settings) -> bool:
        return settings.guidance > 0

    def _encode(self, prompts: Sequence[str], settings: Settings) -> Conditioning:
        tokens = settings.text_tokens(TOKENS)
        rows, unconditional = self.pipeline.encode_prompt(
            list(prompts),
            self.device,
            self.guided(settings),
            [settings.negative_prompt] * len(prompts),
            max_sequence_length=tokens,
        )
        padded = pad_sequence(rows, batch_first=True)
        tokenizer = self.pipeline.tokenizer
        located = [align_in_chat(tokenizer, one, last=tokens, thinking=True) for one in prompts]
        return conditioned(padded, located, {"cap_feats": rows + unconditional})

    def _predict(
        self,
        latents: Latents,
        timestep: Tensor,
        conditioning: Conditioning,
        settings: Settings,
        capture: AbstractContextManager[Any],
    ) -> tuple[Latents, Latents | None]:
        guided = self.guided(settings)
        with capture:
            velocity = self._evaluate(
                torch.cat([latents] * 2) if guided else latents, timestep, conditioning.cond
            )
        if not guided:
            return -velocity, None
        conditional, unconditional = velocity.chunk(2)
        gap = conditional - unconditional
        return -(conditional + settings.guidance * gap), -gap

    def _evaluate(self, latents: Latents, timestep: Tensor, cond: Mapping[str, Any]) -> Latents:
        times = (1000 - timestep.expand(len(latents))) / 1000
        images = list(latents.to(self.denoiser.dtype).unsqueeze(2).unbind(0))
        velocity = self.denoiser(images, times, cond["cap_feats"], return_dict=False)[0]
        return torch.stack([image.float() for image in velocity]).squeeze(2)

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float32

    @property
    def default_size(self) -> tuple[int, int]:
        return SIDE, SIDE

    def _schedule(self, settings: Settings) -> dict[str, Any]:
        mu = flow_shift(self.pipeline.scheduler, self.tokens(settings))
        return {"mu": mu, "sigmas": get_default_z_image_sigmas(settings.steps)}
