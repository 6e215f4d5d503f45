"""A probe's card: what its weights were validated for, and how good they were then.

A model that differs from the card's, or settings outside of its ranges, are refused with the two
values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain, takewhile
from operator import itemgetter
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from promptprobe.probe.families.family import Family, Settings
from promptprobe.probe.families.schedulers import prediction_type
from promptprobe.probe.model.calibration import Calibration
from promptprobe.probe.model.network import COVERAGE, NetworkConfig
from promptprobe.probe.model.verdict import Comparison

Setting = Literal["steps", "guidance", "height", "width"]
SETTINGS: tuple[Setting, ...] = get_args(Setting)
"""The facts that a card has ranges of."""
MOST_CHECKS = 64
RANK, PREVIEW_RANK = "within_pairwise", "within_pairwise_preview"
"""Figures: how many of a prompt's pairs of seeds the probe, and the preview alone, put in the right
order."""
SCHEDULING = ("steps", "height", "width")
"""What the timesteps follow from: flow models shift theirs by the size of the image."""


class ProbeError(ValueError):
    """A probe that is missing, broken, or not meant for the model in use."""


class Frozen(BaseModel):
    """What a card or a shard holds: nothing unknown, and finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelSpec(Frozen):
    """What a probe depends on."""

    scheduler: str = Field(description="class name")
    prediction_type: str = Field(description="epsilon, v_prediction, sample or flow_prediction")
    dtype: str = Field(description="of the latents")
    guidance: float
    steps: int = Field(ge=1, description="of a full render")
    timesteps: tuple[float, ...] = Field(description="where the steps stand on the path")
    height: int = Field(description="pixels")
    width: int = Field(description="pixels")
    negative_prompt: str
    arguments: dict[str, float] = Field(
        default_factory=dict, max_length=16, description="further ones of the pipeline's call"
    )
    keys: str = Field(description="what a row of attention, summing to one, is shared among")
    layers: tuple[str, ...] = Field(max_length=512, description="attention modules, by name")
    weights: str = Field(description="sha256 of these modules' parameters, and of LoRA anywhere")


class Ranges(Frozen):
    """Lowest and highest value of each setting that the probe holds for, the others as it was made
    with: each was measured by itself."""

    steps: tuple[int, int]
    guidance: tuple[float, float]
    height: tuple[int, int]
    width: tuple[int, int]


class Check(Frozen):
    """What was measured with one setting changed, on the prompts and seeds of the card's figures.

    Figures are the first target's, means over windows; None: they are not defined, as a rank is
    not where no two scores differ.
    """

    setting: Setting
    value: float
    holds: bool
    candidates: int = Field(ge=0, description="that have a score")
    within_pairwise: float | None = Field(description="rank within a prompt")
    within_pairwise_home: float | None = Field(description="the same as the probe was made")
    coverage: float | None = Field(description="share of scores inside of their intervals")
    interval_width: float | None = Field(description="as a share of the target's scale")


class Target(Frozen):
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


class ProbeStep(Frozen):
    """A number of steps that the probe may be shown, and how good it is there."""

    k: int = Field(ge=1)
    calibration: tuple[Calibration, ...] = Field(description="of each target")
    figures: dict[str, dict[str, float]] = Field(
        description="by target, on validation scenes; test is left to the evals"
    )
    comparisons: dict[str, Comparison] = Field(
        default_factory=dict, max_length=16, description="with the preview on the same, by target"
    )

    def beats_preview(self, target: str) -> bool:
        """Whether the probe is to be asked here, rather than the preview alone.

        The comparison decides; on a card without one, the higher of the two ranks.
        """
        if found := self.comparisons.get(target):
            return found.finding == "better"
        figures = self.figures.get(target, {})
        return figures.get(RANK, 1.0) > figures.get(PREVIEW_RANK, 0.0)


class Card(Frozen):
    """What a probe is, and how good it was when it was made."""

    format: Literal["promptprobe probe 4"] = "promptprobe probe 4"
    model: str = Field(max_length=500, description="how the model was called; for people")
    made_with: ModelSpec = Field(description="of the candidates that it learned from")
    ranges: Ranges
    shape: NetworkConfig
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of probe.safetensors")
    targets: tuple[Target, ...] = Field(
        min_length=1, max_length=16, description="the first one's judge looks at previews too"
    )
    windows: tuple[ProbeStep, ...] = Field(min_length=1, max_length=32)
    candidates: int = Field(ge=0, description="trained on")
    prompts: int = Field(ge=0)
    start_sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="of weights that training began with; None: none",
    )
    coverage: float = Field(COVERAGE, gt=0, lt=1, description="of the interval")
    checks: tuple[Check, ...] = Field(
        (), max_length=MOST_CHECKS, description="with other settings, failures included"
    )
    verdict: str = Field(
        "", max_length=2000, description="on the first target: where the probe beats the preview"
    )

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Card:
        home = self.made_with
        for what, shown, sized in (
            ("numbers of steps", len(self.windows), self.shape.windows),
            ("targets", len(self.targets), self.shape.targets),
            *(
                (f"calibrations after {window.k} steps", len(window.calibration), len(self.targets))
                for window in self.windows
            ),
        ):
            if shown != sized:
                raise ValueError(f"{shown} {what}, and the network has {sized}")
        for name in SETTINGS:
            (low, high), value = getattr(self.ranges, name), getattr(home, name)
            if not low <= value <= high:
                raise ValueError(f"{name} {low} to {high} is no range that holds its own {value}")
        most = max(window.k for window in self.windows)
        if not most <= home.steps <= len(home.timesteps):
            raise ValueError(
                f"a window of {most} steps, and {len(home.timesteps)} timesteps, do not go with"
                f" {home.steps} steps"
            )
        return self

    def place(self, k: int) -> int:
        """The place of a window. ProbeError: the probe was trained for others."""
        known = [window.k for window in self.windows]
        if k not in known:
            raise ProbeError(
                f"this probe was trained to see {', '.join(map(str, known))} steps, and {k} are "
                "probed; probe as many as one of these, or train a probe for it"
            )
        return known.index(k)

    def window_for(self, k: int, facts: ModelSpec) -> int:
        """Which of the windows a trace after k steps is read as.

        Of as many steps as the probe was made with, k itself: ProbeError where it is none. Of
        another number of steps, the one whose last step stood at the nearest noise level.
        """
        if facts.steps == self.made_with.steps:
            self.place(k)
            return k
        here = _timestep(facts, k)
        return min(
            (window.k for window in self.windows),
            key=lambda known: abs(_timestep(self.made_with, known) - here),
        )

    def windows_here(self, facts: ModelSpec) -> dict[int, int]:
        """The windows, by the number of steps after which this model stands where they stood."""
        if facts.steps == self.made_with.steps:
            return {window.k: window.k for window in self.windows}
        marks = [_timestep(self.made_with, window.k) for window in self.windows]
        steps = range(1, facts.steps + 1)
        near = {min(steps, key=lambda k: abs(_timestep(facts, k) - mark)) for mark in marks}
        return {k: self.window_for(k, facts) for k in sorted(near)}


def _timestep(facts: ModelSpec, k: int) -> float:
    """Where the k-th step was captured; evaluations beyond the steps, as PNDM's, come first."""
    return facts.timesteps[k - 1 + len(facts.timesteps) - facts.steps]


def ranges_of(made_with: ModelSpec, checks: Sequence[Check] = ()) -> Ranges:
    """From what the probe was made with to the farthest value that holds before one that fails."""
    found = {}
    for name in SETTINGS:
        home = getattr(made_with, name)
        own = sorted((check.value, check.holds) for check in checks if check.setting == name)
        outward = (
            [one for one in reversed(own) if one[0] < home],
            [one for one in own if one[0] > home],
        )
        found[name] = tuple(
            [home, *(value for value, _ in takewhile(itemgetter(1), side))][-1] for side in outward
        )
    return Ranges.model_validate(found)


def model_spec_of(family: Family, settings: Settings) -> ModelSpec:
    """The facts of the model in use, to be held against a card."""
    state = family.draw_noise([0], settings)
    return ModelSpec(
        scheduler=family.scheduler_name,
        prediction_type=prediction_type(state.scheduler),
        dtype=str(state.latents.dtype).removeprefix("torch."),
        guidance=settings.guidance,
        steps=settings.steps,
        timesteps=tuple(state.scheduler.timesteps.tolist()),
        height=settings.height,
        width=settings.width,
        negative_prompt=settings.negative_prompt,
        arguments=settings.extra.given,
        keys=family.layout.keys,
        layers=tuple(family.layers()),
        weights=_weights_sha256(family),
    )


def _weights_sha256(family: Family) -> str:
    digest = hashlib.sha256()
    layers = (
        (f"{name}.{part}", tensor)
        for name, layer in family.layers().items()
        for part, tensor in sorted(layer.state_dict().items())
    )
    for name, tensor in chain(layers, family.adapters()):
        if tensor.is_meta:
            raise ProbeError(
                "the model's weights are offloaded part by part, so they cannot be held against "
                "the probe's card; offload it by models (enable_model_cpu_offload)"
            )
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def check(card: Card, facts: ModelSpec) -> None:
    """ProbeError, naming the two values, at the first fact outside what the probe was made for.

    Timesteps are compared where they follow from the same settings.
    """
    made_with = card.made_with
    for setting in SETTINGS:
        low, high = getattr(card.ranges, setting)
        _check_range(setting, low, high, getattr(facts, setting))
    same = all(getattr(made_with, name) == getattr(facts, name) for name in SCHEDULING)
    free = set(SETTINGS) if same else {*SETTINGS, "timesteps"}
    for name in [name for name in ModelSpec.model_fields if name not in free]:
        validated, used = getattr(made_with, name), getattr(facts, name)
        if validated != used:
            raise ProbeError(
                f"this probe was made for {name.replace('_', ' ')} {_short(validated)}, and the"
                f" model in use has {_short(used)}; use the former, or train a probe for the latter"
            )


def _check_range(name: Setting, low: int | float, high: int | float, used: int | float) -> None:
    if not low <= used <= high:
        holds = f"made for {name} {low}" if low == high else f"found to hold for {name} {low}"
        raise ProbeError(
            f"this probe was {holds}{'' if low == high else f' to {high}'}, and the model in use"
            f" has {used}; use the former, or train a probe that is validated for the latter too"
            f" (promptprobe train --also {name}={used})"
        )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:120]}..."
