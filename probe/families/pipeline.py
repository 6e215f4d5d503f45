"""What the families share: one denoising loop, and the pipeline's own scheduler, VAE and lock.

A family says how its pipeline encodes text, evaluates its denoiser and decodes, and how text and
image are arranged in its attention. The loop then equals the official `__call__` bit for bit in
fp32, given the same CPU generators. The user's pipeline is never changed: the scheduler is copied
per batch, and capture restores whatever it switches. A lock for each pipeline is held around each
use of its modules, so that several runs may share it.
"""

from __future__ import annotations

import copy
import inspect
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from diffusers.utils.torch_utils import randn_tensor
from jaxtyping import Float
from torch import Tensor, nn

from promptprobe.probe.cancellation import check_cancelled
from promptprobe.probe.capture.capture import Capture, Groups, Layout
from promptprobe.probe.families import resume
from promptprobe.probe.families.family import (
    Conditioning,
    Images,
    Latents,
    Observe,
    Settings,
    State,
)
from promptprobe.probe.families.modules import adapters, cross_attention, cross_attentions
from promptprobe.probe.families.schedulers import check_scheduler, evaluations, fresh, predict_x0
from promptprobe.probe.families.self_check import Given, Reference, self_check
from promptprobe.probe.families.token_alignment import without_truncation_warnings

_LOCKS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""By pipeline, so that two families of one pipeline share a lock."""


class PipelineFamily(ABC):
    """The verbs of `Family` for a loaded diffusers pipeline.

    Raises TypeError or ValueError, saying what was expected, for a pipeline that is not of this
    family, and CaptureError if its attention cannot be read.
    """

    kind: ClassVar[type[Any]]
    """The official pipeline."""
    known_as: ClassVar[str]
    layout: ClassVar[Layout]
    flow: ClassVar[bool]
    """Whether the model uses flow matching rather than a noise schedule."""
    part: ClassVar[str] = "transformer"
    """The pipeline's name for its denoiser."""
    guidance_name: ClassVar[str] = "guidance_scale"
    """The official `__call__`'s name for `Settings.guidance`."""
    takes: ClassVar[tuple[str, ...]] = ()
    """The `CallArguments` that it accepts."""

    def __init__(self, pipeline: Any) -> None:
        if not isinstance(pipeline, self.kind):
            raise TypeError(
                f"expected a {self.kind.__name__} ({self.known_as}), got {type(pipeline).__name__}"
            )
        check_scheduler(pipeline.scheduler, flow=self.flow)
        self.pipeline = pipeline
        check_step_cache(self.part, self.denoiser)
        self._lock = _LOCKS.setdefault(pipeline, threading.RLock())
        self._check()
        with self._lock:  # its hooks are on modules that other runs may use
            self_check(self)

    # -- what a family defines -----------------------------------------------------------------

    def layers(self) -> Mapping[str, nn.Module]:
        """The modules in which the image attends to the text, by name, in the model's order."""
        return cross_attentions(self.denoiser)

    def reference(self, layer: Any, given: Given, text: int, image: int) -> Reference:
        """A layer's queries and keys, computed plainly from the inputs of its forward.

        text, image: number of tokens of each, if one sequence holds both.
        """
        return cross_attention(layer, given)

    @abstractmethod
    def _encode(self, prompts: Sequence[str], settings: Settings) -> Conditioning:
        """`encode`, without its lock."""

    @abstractmethod
    def _evaluate(self, latents: Latents, timestep: Tensor, cond: Mapping[str, Any]) -> Latents:
        """One call of the denoiser, as the official pipeline makes it."""

    @property
    def _dtype(self) -> torch.dtype:
        """Dtype of the latents, the same as the text encoder's."""
        dtype: torch.dtype = self.pipeline.text_encoder.dtype
        return dtype

    @property
    def _channels(self) -> int:
        """Channels of the latents."""
        return int(self.denoiser.config.in_channels)

    def _check(self) -> None:  # noqa: B027
        """Raise ValueError for a variant that is not supported."""

    def _schedule(self, settings: Settings) -> dict[str, Any]:
        """What the official pipeline passes to `set_timesteps` besides the number of steps."""
        return {}

    def _unscaled(self, latents: Latents) -> Tensor:
        """Latents as the VAE decodes them, without scaling and shift."""
        config = self.pipeline.vae.config
        unscaled: Tensor = latents / config.scaling_factor
        return unscaled + config.shift_factor if self.flow else unscaled

    def _decode(self, latents: Latents) -> Float[Tensor, "batch 3 height width"]:
        vae = self.pipeline.vae
        image: Tensor = vae.decode(self._unscaled(latents.to(vae.dtype)), return_dict=False)[0]
        return image

    def _checked(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch 3 height width"], list[bool]]:
        """The image after the pipeline's checks, and which images its safety checker flags."""
        return image, [False] * len(image)

    # -- the verbs -----------------------------------------------------------------------------

    @property
    def denoiser(self) -> Any:
        """The UNet or transformer."""
        return getattr(self.pipeline, self.part)

    @property
    def scheduler_name(self) -> str:
        return type(self.pipeline.scheduler).__name__

    @property
    def default_guidance(self) -> float:
        return float(inspect.signature(self.kind.__call__).parameters[self.guidance_name].default)

    @property
    def default_size(self) -> tuple[int, int]:
        size = self.denoiser.config.sample_size
        rows, cols = (size, size) if isinstance(size, int) else size
        return rows * self.pipeline.vae_scale_factor, cols * self.pipeline.vae_scale_factor

    @property
    def device(self) -> torch.device:
        device: torch.device = self.pipeline._execution_device
        return device

    def tokens(self, settings: Settings) -> int:
        """Tokens of the image, in joint attention."""
        _, rows, cols = self._latent_shape(settings)
        return rows * cols // self.layout.patch**2

    def guided(self, settings: Settings) -> bool:
        """Whether an unconditional prediction is made."""
        return settings.guidance > 1

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], settings: Settings) -> Conditioning:
        if not prompts:
            raise ValueError("no prompts given: expected at least one")
        with self._lock, without_truncation_warnings(self.pipeline):
            return self._encode(prompts, settings)

    def draw_noise(self, seeds: Sequence[int], settings: Settings) -> State:
        if unknown := [name for name in settings.extra.given if name not in self.takes]:
            raise ValueError(
                f"{self.known_as} does not take {' or '.join(unknown)} here; further arguments "
                f"that it takes: {', '.join(self.takes) or 'none'}"
            )
        scheduler = self._fresh(settings)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        shape = (len(seeds), *self._latent_shape(settings))
        noise = randn_tensor(shape, generator=generators, device=self.device, dtype=self._dtype)
        if not self.flow:
            noise = noise * scheduler.init_noise_sigma
        return State(noise, 0, scheduler, tuple(generators))

    def adapters(self) -> Iterable[tuple[str, Tensor]]:
        return adapters(self.pipeline)

    def capture(self, groups: Groups, settings: Settings) -> Capture:
        size = self._latent_shape(settings)[1:]
        return Capture(self.denoiser, self.layers(), self.layout, groups, size)

    @torch.no_grad()
    def denoise(
        self,
        state: State,
        conditioning: Conditioning,
        settings: Settings,
        until: int,
        observe: Observe | None = None,
        capture: AbstractContextManager[Any] | None = None,
    ) -> State:
        _check_steps(state, conditioning, settings, until)
        capture = capture or nullcontext()
        scheduler = copy.deepcopy(state.scheduler)
        generators = [generator.clone_state() for generator in state.generators]
        extra = _step_arguments(scheduler, generators, settings.extra.eta or 0.0)
        counts = evaluations(scheduler, settings.steps)
        latents = state.latents
        for step in range(state.step, until):
            check_cancelled()
            for index in range(sum(counts[:step]), sum(counts[: step + 1])):
                timestep = scheduler.timesteps[index]
                scaled = latents
                if not self.flow:
                    scaled = scheduler.scale_model_input(latents, timestep)
                with self._lock:
                    prediction, gap = self._predict(
                        scaled, timestep, conditioning, settings, capture
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
        with self._lock:
            return self._pixels(self._decode(latents), [True] * len(latents))

    @torch.no_grad()
    def decode_checked(self, latents: Latents) -> tuple[Images, tuple[bool, ...]]:
        with self._lock:
            image, flags = self._checked(self._decode(latents))
            self.pipeline.maybe_free_model_hooks()  # as the official pipeline does at its end
        return self._pixels(image, [not flag for flag in flags]), tuple(flags)

    def nfe(self, settings: Settings, first: int, until: int) -> int:
        scheduler = fresh(
            self.pipeline.scheduler, settings.steps, torch.device("cpu"), **self._schedule(settings)
        )
        count = sum(evaluations(scheduler, settings.steps)[first:until])
        return 2 * count if self.guided(settings) else count

    def save_state(self, state: State, settings: Settings, paths: Sequence[Path]) -> None:
        resume.save(state, settings, paths)

    def load_state(self, paths: Sequence[Path], settings: Settings) -> State:
        shape = self._latent_shape(settings)
        return resume.load(paths, settings, self._fresh(settings), shape, self.device)

    # -- internals -----------------------------------------------------------------------------

    def _predict(
        self,
        latents: Latents,
        timestep: Tensor,
        conditioning: Conditioning,
        settings: Settings,
        capture: AbstractContextManager[Any],
    ) -> tuple[Latents, Latents | None]:
        """The (guided) prediction, and the guidance gap or None without guidance; one call of the
        denoiser makes both halves, the unconditional one first."""
        guided = self.guided(settings)
        with capture:
            prediction = self._evaluate(
                torch.cat([latents] * 2) if guided else latents, timestep, conditioning.cond
            )
        if not guided:
            return prediction, None
        unconditional, conditional = prediction.chunk(2)
        gap = conditional - unconditional
        guided_by = unconditional + settings.guidance * gap
        if rescale := settings.extra.guidance_rescale:
            guided_by = rescale_noise_cfg(guided_by, conditional, guidance_rescale=rescale)
        return guided_by, gap

    def _fresh(self, settings: Settings) -> Any:
        return fresh(
            self.pipeline.scheduler, settings.steps, self.device, **self._schedule(settings)
        )

    def _latent_shape(self, settings: Settings) -> tuple[int, int, int]:
        scale = self.pipeline.vae_scale_factor
        multiple = max(8, scale * self.layout.patch)
        for name, pixels in (("height", settings.height), ("width", settings.width)):
            if pixels < multiple or pixels % multiple:
                raise ValueError(f"{name} must be a multiple of {multiple} pixels, got {pixels}")
        return self._channels, settings.height // scale, settings.width // scale

    def _pixels(
        self, image: Float[Tensor, "batch 3 height width"], denormalize: list[bool]
    ) -> Images:
        pixels = self.pipeline.image_processor.postprocess(
            image, output_type="np", do_denormalize=denormalize
        )
        return (pixels * 255).round().astype("uint8")


def check_step_cache(part: str, denoiser: Any) -> None:
    """Raise ValueError, with its name, if a step cache skips blocks by reusing earlier outputs.

    A skipped block has no attention to capture, and the cached outputs belong to another batch.
    """
    hooks = [
        type(hook).__module__.rpartition(".")[2]
        for module in denoiser.modules()
        for hook in getattr(getattr(module, "_diffusers_hook", None), "hooks", {}).values()
    ]
    found = next((name for name in hooks if "cache" in name or "broadcast" in name), "")
    undo = f"pipeline.{part}.disable_cache()"
    if "DeepCache" in getattr(vars(denoiser).get("forward"), "__qualname__", ""):
        found, undo = "DeepCache", "helper.disable()"
    if found:
        raise ValueError(
            f"the step cache {found} is enabled on the {part}, so blocks that the probe reads are "
            f"skipped. Disable it first: {undo}"
        )


def _check_steps(state: State, conditioning: Conditioning, settings: Settings, until: int) -> None:
    if not state.step <= until <= settings.steps:
        raise ValueError(
            f"expected a step from {state.step} (the state's) to {settings.steps}, got {until}"
        )
    if len(state.latents) != len(conditioning.words):
        raise ValueError(
            f"{len(state.latents)} candidates, but {len(conditioning.words)} encoded prompts"
        )


def _step_arguments(
    scheduler: Any, generators: list[torch.Generator], eta: float
) -> dict[str, Any]:
    """As in the official pipeline: eta and generators, if `step` accepts them."""
    accepted = inspect.signature(scheduler.step).parameters
    extra = {"eta": eta, "generator": generators}
    return {name: value for name, value in extra.items() if name in accepted}
