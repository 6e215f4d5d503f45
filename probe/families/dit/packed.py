"""What FLUX and Qwen-Image share: latents packed, 2 x 2 to a token, around each evaluation only.

The text's tokens come before the image's. The timesteps are shifted for the size of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from einops import rearrange
from torch import Tensor

from promptprobe.probe.capture.capture import Layout
from promptprobe.probe.families.family import Conditioning, Latents, Settings
from promptprobe.probe.families.pipeline import PipelineFamily
from promptprobe.probe.families.schedulers import even_sigmas, flow_shift


class Packed(PipelineFamily):
    layout = Layout("first", patch=2)
    flow = True

    @property
    def default_size(self) -> tuple[int, int]:
        return (self.pipeline.default_sample_size * self.pipeline.vae_scale_factor,) * 2

    def _predict(
        self,
        latents: Latents,
        timestep: Tensor,
        conditioning: Conditioning,
        settings: Settings,
        capture: AbstractContextManager[Any],
    ) -> tuple[Latents, Latents | None]:
        """The prediction and the guidance gap, from two calls if there is guidance."""
        with capture, self.denoiser.cache_context("cond"):
            conditional = self._evaluate(latents, timestep, conditioning.cond)
        if conditioning.uncond is None:
            return conditional, None
        with self.denoiser.cache_context("uncond"):
            unconditional = self._evaluate(latents, timestep, conditioning.uncond)
        gap = conditional - unconditional
        return self._rescaled(unconditional + settings.guidance * gap, conditional), gap

    def _rescaled(self, guided: Latents, conditional: Latents) -> Latents:
        """A guided prediction, rescaled as in the official pipeline."""
        return guided

    def _evaluate(self, latents: Latents, timestep: Tensor, cond: Mapping[str, Any]) -> Latents:
        times = timestep.expand(len(latents)).to(latents.dtype) / 1000
        prediction = self.denoiser(
            hidden_states=packed(latents), timestep=times, **cond, return_dict=False
        )[0]
        return unpacked(prediction, latents)

    @property
    def _channels(self) -> int:
        return int(self.denoiser.config.in_channels) // 4

    def _schedule(self, settings: Settings) -> dict[str, Any]:
        scheduler = self.pipeline.scheduler
        mu = flow_shift(scheduler, self.tokens(settings))
        return {"mu": mu, **even_sigmas(scheduler, settings.steps)}


def packed(latents: Latents) -> Tensor:
    """Pack 2 x 2 latents into each token: [batch, token, 4 x channel]."""
    return rearrange(latents, "b c (row p) (col q) -> b (row col) (c p q)", p=2, q=2)


def unpacked(tokens: Tensor, like: Latents) -> Latents:
    """Inverse of `packed`; the result is shaped as `like`."""
    grid = {"row": like.shape[2] // 2, "p": 2, "q": 2}
    return rearrange(tokens, "b (row col) (c p q) -> b c (row p) (col q)", **grid)
