"""The family of Stable Diffusion 1.x and 2.x: one UNet with cross-attention, one CLIP text encoder.

A full render through these verbs equals `StableDiffusionPipeline.__call__` bit for bit in fp32,
given the same CPU generators. The user's pipeline is never changed: the scheduler is copied per
batch. The unconditional half comes first. As in the official pipeline, latents are divided by the
VAE's scaling factor and no shift is applied. SDXL (stable_diffusion_xl.py) is the same loop, told
more.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from jaxtyping import Float
from torch import Tensor, nn

from promptprobe.probe import states
from promptprobe.probe.capture import self_check
from promptprobe.probe.family import (
    Conditioning,
    Images,
    Latents,
    Observe,
    Settings,
    Span,
    State,
)
from promptprobe.probe.schedulers import check_scheduler, evaluations, fresh, predict_x0
from promptprobe.probe.words import find_words

TRIED = (16, 24)
"""Rows and columns of the latents of the self-check: more than a grid, and not square."""


class StableDiffusion:
    """The verbs of `Family` for a loaded pipeline.

    Raises TypeError or ValueError, saying what was expected, for a pipeline that is none of this
    family, and CaptureError where its attention cannot be read.
    """

    kind: type[Any] = StableDiffusionPipeline
    known_as = "Stable Diffusion 1.x or 2.x"
    addition: str | None = None
    """The UNet's `addition_embed_type`: what it is told beside text and time."""

    def __init__(self, pipeline: Any) -> None:
        self._check(pipeline)
        self.pipeline = pipeline
        self_check(self.layers(), self._try, TRIED)

    @property
    def scheduler_name(self) -> str:
        return type(self.pipeline.scheduler).__name__

    @property
    def default_guidance(self) -> float:
        return float(inspect.signature(self.kind.__call__).parameters["guidance_scale"].default)

    @property
    def default_size(self) -> tuple[int, int]:
        size = self.pipeline.unet.config.sample_size
        rows, cols = (size, size) if isinstance(size, int) else size
        return rows * self.pipeline.vae_scale_factor, cols * self.pipeline.vae_scale_factor

    @property
    def device(self) -> torch.device:
        device: torch.device = self.pipeline._execution_device
        return device

    def layers(self) -> Mapping[str, nn.Module]:
        return {
            name: module
            for name, module in self.pipeline.unet.named_modules()
            if getattr(module, "is_cross_attention", False)
        }

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], settings: Settings) -> Conditioning:
        if not prompts:
            raise ValueError("no prompts given: expected at least one")
        rows, added = self._embed(prompts, settings)
        return Conditioning(rows, *self._words(prompts), added)

    def draw_noise(self, seeds: Sequence[int], settings: Settings) -> State:
        scheduler = fresh(self.pipeline.scheduler, settings.steps, self.device)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        shape = (len(seeds), *self._latent_shape(settings))
        noise = randn_tensor(shape, generator=generators, device=self.device, dtype=self._dtype)
        return State(noise * scheduler.init_noise_sigma, 0, scheduler, tuple(generators))

    @torch.no_grad()
    def denoise(
        self,
        state: State,
        conditioning: Conditioning,
        settings: Settings,
        until: int,
        observe: Observe | None = None,
    ) -> State:
        if not state.step <= until <= settings.steps:
            raise ValueError(
                f"expected a step from {state.step} (the state's) to {settings.steps}, got {until}"
            )
        if len(state.latents) != len(conditioning.words):
            raise ValueError(
                f"{len(state.latents)} candidates, but prompts for {len(conditioning.words)}"
            )
        scheduler = copy.deepcopy(state.scheduler)
        generators = [generator.clone_state() for generator in state.generators]
        extra = _step_arguments(scheduler, generators)
        counts = evaluations(scheduler, settings.steps)
        latents = state.latents
        for step in range(state.step, until):
            for index in range(sum(counts[:step]), sum(counts[: step + 1])):
                timestep = scheduler.timesteps[index]
                scaled, prediction, gap = self._predict(
                    scheduler, latents, timestep, conditioning, settings.guidance
                )
                latents = scheduler.step(prediction, timestep, latents, **extra, return_dict=False)[
                    0
                ]
            if observe is not None:
                x0 = predict_x0(scheduler, index, timestep, scaled, prediction)
                observe(step, x0, torch.zeros_like(x0) if gap is None else gap)
        return State(latents, until, scheduler, tuple(generators))

    @torch.no_grad()
    def decode(self, latents: Latents) -> Images:
        return self._pixels(self._decode(latents), [True] * len(latents))

    @torch.no_grad()
    def decode_checked(self, latents: Latents) -> tuple[Images, tuple[bool, ...]]:
        pipeline = self.pipeline
        image, flagged = pipeline.run_safety_checker(
            self._decode(latents), self.device, self._dtype
        )
        flags = tuple(map(bool, flagged)) if flagged is not None else (False,) * len(latents)
        return self._pixels(image, [not flag for flag in flags]), flags

    def nfe(self, settings: Settings, first: int, until: int) -> int:
        scheduler = fresh(self.pipeline.scheduler, settings.steps, torch.device("cpu"))
        made = sum(evaluations(scheduler, settings.steps)[first:until])
        return 2 * made if settings.guidance > 1 else made

    def save_state(self, state: State, settings: Settings, paths: Sequence[Path]) -> None:
        states.save(state, settings, paths)

    def load_state(self, paths: Sequence[Path], settings: Settings) -> State:
        scheduler = fresh(self.pipeline.scheduler, settings.steps, self.device)
        return states.load(paths, settings, scheduler, self._latent_shape(settings), self.device)

    def _predict(
        self,
        scheduler: Any,
        latents: Latents,
        timestep: Tensor,
        conditioning: Conditioning,
        guidance: float,
    ) -> tuple[Latents, Latents, Latents | None]:
        """The scaled input, the (guided) prediction, and the guidance gap if there is guidance."""
        guided = guidance > 1
        doubled = torch.cat([latents] * 2) if guided else latents
        scaled = scheduler.scale_model_input(doubled, timestep)
        prediction = self._unet(scaled, timestep, conditioning)
        if not guided:
            return scaled, prediction, None
        unconditional, conditional = prediction.chunk(2)
        gap = conditional - unconditional
        return scaled[len(latents) :], unconditional + guidance * gap, gap

    def _unet(self, latents: Latents, timestep: Tensor, conditioning: Conditioning) -> Latents:
        prediction: Tensor = self.pipeline.unet(
            latents,
            timestep,
            encoder_hidden_states=conditioning.embeddings,
            added_cond_kwargs=conditioning.added or None,
            return_dict=False,
        )[0]
        return prediction

    def _embed(
        self, prompts: Sequence[str], settings: Settings
    ) -> tuple[Float[Tensor, "sample token dim"], dict[str, Tensor]]:
        """`Conditioning.embeddings`, and what is `added` to them."""
        guided = settings.guidance > 1
        negative = [settings.negative_prompt] * len(prompts) if guided else None
        conditional, unconditional = self.pipeline.encode_prompt(
            list(prompts), self.device, 1, guided, negative
        )
        return torch.cat([unconditional, conditional]) if guided else conditional, {}

    @property
    def _dtype(self) -> torch.dtype:
        """Of the embeddings, and so of the latents."""
        dtype: torch.dtype = self.pipeline.text_encoder.dtype
        return dtype

    def _words(
        self, prompts: Sequence[str]
    ) -> tuple[tuple[tuple[Span, ...], ...], tuple[tuple[str, ...], ...]]:
        """Content words of each prompt, and those that are cut off."""
        tokenizer = self.pipeline.tokenizer
        texts = self.pipeline.maybe_convert_prompt(list(prompts), tokenizer)
        words, cut = zip(*(find_words(tokenizer, text) for text in texts), strict=True)
        return words, cut

    @torch.no_grad()
    def _try(self) -> None:
        """One small forward pass of random input, for the self-check."""
        unet = self.pipeline.unet
        generator = torch.Generator().manual_seed(0)
        latents = torch.randn(1, unet.config.in_channels, *TRIED, generator=generator)
        text = torch.randn(1, 7, unet.config.cross_attention_dim, generator=generator)
        placed = {"device": self.device, "dtype": unet.dtype}
        told = Conditioning(text.to(**placed), ((),), ((),), self._added_to_try(placed))
        self._unet(latents.to(**placed), torch.tensor(500, device=self.device), told)

    def _added_to_try(self, placed: dict[str, Any]) -> dict[str, Tensor]:
        """`Conditioning.added` of one candidate of no prompt in particular."""
        return {}

    def _latent_shape(self, settings: Settings) -> tuple[int, int, int]:
        scale = self.pipeline.vae_scale_factor
        for name, pixels in (("height", settings.height), ("width", settings.width)):
            if pixels < 8 or pixels % 8:
                raise ValueError(f"{name} must be a multiple of 8 pixels, got {pixels}")
        channels: int = self.pipeline.unet.config.in_channels
        return channels, settings.height // scale, settings.width // scale

    def _decode(self, latents: Latents) -> Float[Tensor, "batch 3 height width"]:
        vae = self.pipeline.vae
        scaled = self._unscaled(latents.to(vae.dtype))  # a trace keeps x0 in float32
        image: Tensor = vae.decode(scaled, return_dict=False)[0]
        return image

    def _unscaled(self, latents: Latents) -> Latents:
        """What the VAE decodes."""
        unscaled: Tensor = latents / self.pipeline.vae.config.scaling_factor
        return unscaled

    def _check(self, pipeline: Any) -> None:
        """TypeError or ValueError for a pipeline that is none of this family."""
        if not isinstance(pipeline, self.kind):
            raise TypeError(
                f"expected a {self.kind.__name__} ({self.known_as}), "
                f"got {type(pipeline).__name__}: this kind of model is not known yet"
            )
        check_scheduler(pipeline.scheduler)
        unet, vae = pipeline.unet.config, pipeline.vae.config
        if unet.in_channels != vae.latent_channels:
            raise ValueError(
                f"the UNet takes {unet.in_channels} channels and the VAE gives "
                f"{vae.latent_channels}: expected a plain text-to-image model (inpainting and "
                "editing ones are not known)"
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

    def _pixels(
        self, image: Float[Tensor, "batch 3 height width"], denormalize: list[bool]
    ) -> Images:
        pixels = self.pipeline.image_processor.postprocess(
            image, output_type="np", do_denormalize=denormalize
        )
        return (pixels * 255).round().astype("uint8")


def _step_arguments(scheduler: Any, generators: list[torch.Generator]) -> dict[str, Any]:
    """As in the official pipeline: eta and generators where `step` takes them."""
    accepted = inspect.signature(scheduler.step).parameters
    extra = {"eta": 0.0, "generator": generators}
    return {name: value for name, value in extra.items() if name in accepted}
