"""A probe's card: what its weights were validated for, and how good they were.

A model that differs from the card's, or a setting outside its ranges, is refused with an error that
names both values.
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
"""The facts for which a card has ranges."""
MOST_CHECKS = 64
RANK, PREVIEW_RANK = "within_pairwise", "within_pairwise_preview"
"""Figures: the share of a prompt's pairs of seeds that the probe, or the preview alone, ranks
correctly."""
SCHEDULING = ("steps", "height", "width")
"""Settings that determine the timesteps: flow models shift theirs by the size of the image."""


class ProbeError(ValueError):
    """A probe that is missing, broken, or not meant for the model in use."""


class Frozen(BaseModel):
    """Base of what a card or a shard holds: no unknown fields, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelSpec(Frozen):
    """The model and settings that a probe depends on."""

    scheduler: str = Field(description="class name")
    prediction_type: str = Field(description="epsilon, v_prediction, sample or flow_prediction")
    dtype: str = Field(description="of the latents")
    guidance: float
    steps: int = Field(ge=1, description="of a full render")
    timesteps: tuple[float, ...] = Field(description="the scheduler's timesteps")
    height: int = Field(description="pixels")
    width: int = Field(description="pixels")
    negative_prompt: str
    arguments: dict[str, float] = Field(
        default_factory=dict, max_length=16, description="further arguments of the pipeline's call"
    )
    keys: str = Field(description="the keys over which a row of attention sums to one")
    layers: tuple[str, ...] = Field(max_length=512, description="attention modules, by name")
    weights: str = Field(description="sha256 of these modules' parameters and of all LoRA weights")


class Ranges(Frozen):
    """Lowest and highest value of each setting for which the probe is valid. Each was varied alone,
    with the other settings as the probe was made."""

    steps: tuple[int, int]
    guidance: tuple[float, float]
    height: tuple[int, int]
    width: tuple[int, int]


class Check(Frozen):
    """What was measured with one setting changed, on the prompts and seeds of the card's figures.

    Figures are for the first target, averaged over windows. None means undefined: a rank is, if no
    two scores differ.
    """

    setting: Setting
    value: float
    holds: bool
    candidates: int = Field(ge=0, description="scored candidates")
    within_pairwise: float | None = Field(description="rank within a prompt")
    within_pairwise_home: float | None = Field(description="the same with the probe's own settings")
    coverage: float | None = Field(description="share of scores inside their intervals")
    interval_width: float | None = Field(description="as a share of the target's scale")


class Target(Frozen):
    """A score that is predicted. The network sees it as a share of the way from low to high."""

    name: str = Field(max_length=500)
    low: float
    high: float
    median: float = Field(description="of the training split; a score above it counts as good")

    def share(self, score: Tensor) -> Tensor:
        """The score as a share 0 .. 1, clamped to the training range; nan stays nan."""
        return ((score - self.low) / (self.high - self.low)).clamp(0, 1)

    def score(self, share: Tensor) -> Tensor:
        """Inverse of `share`."""
        return self.low + share * (self.high - self.low)


class ProbeStep(Frozen):
    """A number of steps after which the probe can predict, and how good it is there."""

    k: int = Field(ge=1)
    calibration: tuple[Calibration, ...] = Field(description="one for each target")
    figures: dict[str, dict[str, float]] = Field(
        description="by target, on validation scenes; the test split is left to the evals"
    )
    comparisons: dict[str, Comparison] = Field(
        default_factory=dict, max_length=16, description="by target, with the preview"
    )

    def beats_preview(self, target: str) -> bool:
        """Whether to use the probe after this many steps, rather than the preview alone.

        The comparison decides; a card without one goes by the higher of the two ranks.
        """
        if comparison := self.comparisons.get(target):
            return comparison.finding == "better"
        figures = self.figures.get(target, {})
        return figures.get(RANK, 1.0) > figures.get(PREVIEW_RANK, 0.0)


class Card(Frozen):
    """What a probe is, and how good it was when it was made."""

    format: Literal["promptprobe probe 4"] = "promptprobe probe 4"
    model: str = Field(max_length=500, description="the model's name, for human readers only")
    made_with: ModelSpec = Field(description="model and settings of the training candidates")
    ranges: Ranges
    shape: NetworkConfig
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of probe.safetensors")
    targets: tuple[Target, ...] = Field(
        min_length=1, max_length=16, description="the judge of the first also scores previews"
    )
    windows: tuple[ProbeStep, ...] = Field(min_length=1, max_length=32)
    candidates: int = Field(ge=0, description="in the training split")
    prompts: int = Field(ge=0)
    start_sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="of the weights that training started from, if it started from a probe",
    )
    coverage: float = Field(COVERAGE, gt=0, lt=1, description="nominal coverage of the interval")
    checks: tuple[Check, ...] = Field(
        (), max_length=MOST_CHECKS, description="with other settings, failures included"
    )
    verdict: str = Field(
        "", max_length=2000, description="on the first target: where the probe beats the preview"
    )

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Card:
        home = self.made_with
        for what, listed, expected in (
            ("numbers of steps", len(self.windows), self.shape.windows),
            ("targets", len(self.targets), self.shape.targets),
            *(
                (f"calibrations after {window.k} steps", len(window.calibration), len(self.targets))
                for window in self.windows
            ),
        ):
            if listed != expected:
                raise ValueError(f"the card lists {listed} {what}, but the network has {expected}")
        for name in SETTINGS:
            (low, high), value = getattr(self.ranges, name), getattr(home, name)
            if not low <= value <= high:
                raise ValueError(f"the range of {name}, {low} to {high}, excludes its own {value}")
        most = max(window.k for window in self.windows)
        if not most <= home.steps <= len(home.timesteps):
            raise ValueError(
                f"a window of {most} steps and {len(home.timesteps)} timesteps do not fit"
                f" {home.steps} steps"
            )
        return self

    def place(self, k: int) -> int:
        """Index of a window. ProbeError: the probe was not trained for this number of steps."""
        known = [window.k for window in self.windows]
        if k not in known:
            raise ProbeError(
                f"this probe was trained to see {', '.join(map(str, known))} steps, but {k} are "
                "probed; probe one of these numbers of steps, or train a probe for this one"
            )
        return known.index(k)

    def window_for(self, k: int, facts: ModelSpec) -> int:
        """The window to use for a trace after k steps.

        With the number of steps that the probe was made with, this is k itself (ProbeError if k is
        not a window). With another number, it is the window with the nearest noise level.
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
        """The windows, by the number of steps after which this model is nearest to each."""
        if facts.steps == self.made_with.steps:
            return {window.k: window.k for window in self.windows}
        marks = [_timestep(self.made_with, window.k) for window in self.windows]
        steps = range(1, facts.steps + 1)
        near = {min(steps, key=lambda k: abs(_timestep(facts, k) - mark)) for mark in marks}
        return {k: self.window_for(k, facts) for k in sorted(near)}


def _timestep(facts: ModelSpec, k: int) -> float:
    """Timestep at which the k-th step was captured; extra evaluations, as PNDM's, come first."""
    return facts.timesteps[k - 1 + len(facts.timesteps) - facts.steps]


def ranges_of(made_with: ModelSpec, checks: Sequence[Check] = ()) -> Ranges:
    """Ranges from the probe's own settings out to the last value before a check fails."""
    ranges = {}
    for name in SETTINGS:
        home = getattr(made_with, name)
        own = sorted((check.value, check.holds) for check in checks if check.setting == name)
        outward = (
            [one for one in reversed(own) if one[0] < home],
            [one for one in own if one[0] > home],
        )
        ranges[name] = tuple(
            [home, *(value for value, _ in takewhile(itemgetter(1), side))][-1] for side in outward
        )
    return Ranges.model_validate(ranges)


def model_spec_of(family: Family, settings: Settings) -> ModelSpec:
    """The facts of the model in use, to compare with a card."""
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
                "the model's weights are offloaded layer by layer, so they cannot be compared with "
                "the probe's card; offload whole models instead (enable_model_cpu_offload)"
            )
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def check(card: Card, facts: ModelSpec) -> None:
    """Raise ProbeError, naming both values, at the first fact that the probe was not made for.

    Timesteps are compared only if the settings that determine them are the same.
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
                f"this probe was made for {name.replace('_', ' ')} {_short(validated)}, but the"
                f" model in use has {_short(used)}; use the former, or train a probe for the latter"
            )


def _check_range(name: Setting, low: int | float, high: int | float, used: int | float) -> None:
    if not low <= used <= high:
        valid = f"made for {name} {low}" if low == high else f"validated for {name} {low} to {high}"
        raise ProbeError(
            f"this probe was {valid}, but the model in use"
            f" has {used}; use the former, or train a probe that is validated for the latter too"
            f" (promptprobe train --also {name}={used})"
        )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:120]}..."
