"""The interface of a kind of pipeline: a few verbs, and the records that they pass on.

A family teaches the probe one kind of text-to-image pipeline; capture, statistics, trace and
network know nothing else about it. A step is an index into the schedule, 0 .. settings.steps; a
scheduler may evaluate the denoiser more than once in a step. A candidate's numbers never depend on
its batch: each candidate has its own CPU generator and its own state file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from promptprobe.probe.capture.capture import Capture, Layout

Latents = Float[Tensor, "batch channel high wide"]
Images = UInt8[np.ndarray, "batch height width 3"]

Observe = Callable[[int, Tensor, Tensor], None]
"""Called once a step, after its last evaluation: step, predicted x0 latents, guidance gap.

Both tensors are shaped like the latents; the gap is the conditional minus the unconditional
prediction, or zeros without guidance.
"""


class StateError(ValueError):
    """A saved state that cannot be continued: broken, or from another model or other settings."""


@dataclass(frozen=True)
class CallArguments:
    """Further arguments of the official pipeline's call, under its names; None is its default."""

    guidance_rescale: float | None = None
    clip_skip: int | None = None
    eta: float | None = None
    max_sequence_length: int | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The arguments that are set."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Settings:
    """How images are generated, with defaults filled in."""

    steps: int
    """Denoising steps of a full render."""
    guidance: float
    """The official pipeline's guidance scale. Above 1 it means classifier-free guidance, which
    doubles the cost (Z-Image: above 0; FLUX.1 takes the scale as an input, at no cost)."""
    height: int
    """Pixels."""
    width: int
    """Pixels."""
    negative_prompt: str = ""
    extra: CallArguments = CallArguments()

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if not 0 <= self.guidance < float("inf"):
            raise ValueError(f"guidance must be a finite number from 0 up, got {self.guidance}")

    def text_tokens(self, official: int) -> int:
        """Length of the text sequence; `official` is the official pipeline's default."""
        return self.extra.max_sequence_length or official


@dataclass(frozen=True)
class Span:
    """A word of the prompt and the indices of its text encoder tokens."""

    word: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Conditioning:
    """The denoiser's conditioning, and where each prompt's words are in it."""

    embeddings: Float[Tensor, "batch token dim"]
    """The text encoder's output for the prompts alone; its token axis matches the text keys'."""
    words: tuple[tuple[Span, ...], ...]
    """Content words per prompt; special tokens, function words and punctuation are left out."""
    cut: tuple[tuple[str, ...], ...]
    """Words per prompt that fall beyond the encoder's token limit."""
    cond: Mapping[str, Any]
    """The denoiser's keyword arguments, including unconditional rows if one call does both."""
    uncond: Mapping[str, Any] | None = None
    """The same for the unconditional call, in a family that makes two calls."""


@dataclass(frozen=True)
class State:
    """A batch between two steps. Verbs return new states and leave the old ones usable."""

    latents: Latents
    step: int
    """The next step to run."""
    scheduler: Any
    """This batch's own copy of the diffusers scheduler, with its multistep buffers."""
    generators: tuple[torch.Generator, ...]
    """One CPU generator a candidate."""


@runtime_checkable
class Family(Protocol):
    """The verbs of one kind of pipeline."""

    @property
    def scheduler_name(self) -> str:
        """Class name of the scheduler."""

    @property
    def default_guidance(self) -> float:
        """The guidance scale that the official pipeline uses by default."""

    @property
    def default_size(self) -> tuple[int, int]:
        """Height and width in pixels that the model was trained for."""

    @property
    def layout(self) -> Layout:
        """How text and image are arranged in these modules' attention."""

    def layers(self) -> Mapping[str, nn.Module]:
        """The modules in which the image attends to the text, by name, in the model's order."""

    def adapters(self) -> Iterable[tuple[str, Tensor]]:
        """LoRA weights and scales anywhere in the pipeline, by name."""

    def capture(self, groups: Float[Tensor, "batch group key"], settings: Settings) -> Capture:
        """A capture of these layers, to pass to `denoise`; see `Capture` for `groups`."""

    def encode(self, prompts: Sequence[str], settings: Settings) -> Conditioning:
        """Text to embeddings, with each content word's token indices."""

    def draw_noise(self, seeds: Sequence[int], settings: Settings) -> State:
        """Each candidate's noise from its own CPU generator, ready for step 0."""

    def denoise(
        self,
        state: State,
        conditioning: Conditioning,
        settings: Settings,
        until: int,
        observe: Observe | None = None,
        capture: AbstractContextManager[Any] | None = None,
    ) -> State:
        """Run the steps state.step .. until - 1; `capture` is entered for each evaluation."""

    def decode(self, latents: Latents) -> Images:
        """Latents to pixels without a safety check, for previews that only a scorer sees."""

    def decode_checked(self, latents: Latents) -> tuple[Images, tuple[bool, ...]]:
        """Images as the pipeline returns them, and which ones its safety checker blacked out."""

    def nfe(self, settings: Settings, first: int, until: int) -> int:
        """Actual denoiser evaluations per image from step `first` to `until`."""

    def save_state(self, state: State, settings: Settings, paths: Sequence[Path]) -> None:
        """Save each candidate to its own file."""

    def load_state(self, paths: Sequence[Path], settings: Settings) -> State:
        """Load saved candidates, from any batches, as one batch. StateError: one does not fit."""
