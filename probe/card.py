"""A probe's card: what its weights were validated for, and how good they were then.

A model that differs from the card's in any fact is refused with the two values.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from promptprobe.probe.family import Family, Settings
from promptprobe.probe.network import COVERAGE, Shape
from promptprobe.probe.schedulers import prediction_type


class ProbeError(ValueError):
    """A probe that is missing, broken, or not meant for the model in use."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Facts(_Frozen):
    """What a probe depends on. In this first form every range is one value."""

    scheduler: str = Field(description="class name")
    prediction_type: str = Field(description="epsilon, v_prediction, sample or flow_prediction")
    dtype: str = Field(description="of the latents")
    guidance: float
    steps: int = Field(ge=1, description="of a full render")
    timesteps: tuple[float, ...] = Field(description="where the steps stand on the path")
    height: int = Field(description="pixels")
    width: int = Field(description="pixels")
    negative_prompt: str
    keys: str = Field(description="what a row of attention, summing to one, is shared among")
    layers: tuple[str, ...] = Field(max_length=512, description="attention modules, by name")
    weights: str = Field(description="sha256 of these modules' parameters")


class Target(_Frozen):
    """A score that is predicted. The network knows it as a share of the way from low to high."""

    name: str = Field(max_length=500)
    low: float
    high: float
    median: float = Field(description="of the training split: what counts as good")

    def share(self, score: Tensor) -> Tensor:
        """0 .. 1; what lies outside of what training knew stays at an end. nan stays nan."""
        return ((score - self.low) / (self.high - self.low)).clamp(0, 1)

    def score(self, share: Tensor) -> Tensor:
        """The way back."""
        return self.low + share * (self.high - self.low)


class Window(_Frozen):
    """A number of steps that the probe may be shown, and how good it is there."""

    k: int = Field(ge=1)
    margins: tuple[float, ...] = Field(
        description="added to both ends of each target's raw interval, as a share of its scale"
    )
    figures: dict[str, dict[str, float]] = Field(
        description="by target, on validation scenes; test is left to the evals"
    )


class Card(_Frozen):
    """What a probe is, and how good it was when it was made."""

    format: Literal["promptprobe probe 2"] = "promptprobe probe 2"
    model: str = Field(max_length=500, description="how the model was called; for people")
    ranges: Facts
    shape: Shape
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of probe.safetensors")
    targets: tuple[Target, ...] = Field(
        min_length=1, max_length=16, description="the first one's judge looks at previews too"
    )
    windows: tuple[Window, ...] = Field(min_length=1, max_length=32)
    candidates: int = Field(ge=0, description="trained on")
    prompts: int = Field(ge=0)
    coverage: float = Field(COVERAGE, gt=0, lt=1, description="of the interval")


def facts_of(family: Family, settings: Settings) -> Facts:
    """The facts of the model in use, to be held against a card."""
    state = family.draw_noise([0], settings)
    digest = hashlib.sha256()
    for name, layer in family.layers().items():
        for part, tensor in sorted(layer.state_dict().items()):
            if tensor.is_meta:
                raise ProbeError(
                    "the model's weights are offloaded part by part, so they cannot be held "
                    "against the probe's card; offload it by models (enable_model_cpu_offload)"
                )
            digest.update(f"{name}.{part}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return Facts(
        scheduler=family.scheduler_name,
        prediction_type=prediction_type(state.scheduler),
        dtype=str(state.latents.dtype).removeprefix("torch."),
        guidance=settings.guidance,
        steps=settings.steps,
        timesteps=tuple(state.scheduler.timesteps.tolist()),
        height=settings.height,
        width=settings.width,
        negative_prompt=settings.negative_prompt,
        keys=family.layout.keys,
        layers=tuple(family.layers()),
        weights=digest.hexdigest(),
    )


def check(card: Card, facts: Facts) -> None:
    """ProbeError, naming the two values, at the first fact outside what the probe was made for."""
    for name in Facts.model_fields:
        validated, used = getattr(card.ranges, name), getattr(facts, name)
        if validated != used:
            raise ProbeError(
                f"this probe was made for {name.replace('_', ' ')} {_short(validated)}, and the"
                f" model in use has {_short(used)}; use the former, or train a probe for the latter"
            )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:120]}..."
