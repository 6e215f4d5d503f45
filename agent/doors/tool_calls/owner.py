"""What only the machine's owner decides, never an agent: model, judges, device, LoRAs and caps.

Here an agent's arguments become a request, or are refused with one line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import Field

from promptprobe.agent.doors.schemas import (
    MAX_JUDGES,
    OptimizeArguments,
    OptimizeRequest,
    ProbeArguments,
    ProbeRequest,
    Scorers,
    checked,
)
from promptprobe.tools.models.built_in import DEFAULT_MODEL
from promptprobe.tools.nearest import did_you_mean
from promptprobe.tools.records import (
    BUDGETS,
    Budget,
    Generation,
    Picture,
    Record,
    Text,
    budget_of,
)
from promptprobe.tools.scorers.table import DEFAULT_CLIP

MACHINE = ("dtype", "device", "offload")
"""Settings of the owner that hold for every model; the others are those of the default model."""
MAX_STEPS = 100
MAX_AREA = 4
"""Maximum size of a picture, as a multiple of the pixels that the model was made for."""

A = TypeVar("A", OptimizeArguments, ProbeArguments)


class Owner(Record):
    """The models and judges that serve agents' calls, and how much one call may cost."""

    model: Text = Field(default=DEFAULT_MODEL, description="model that draws")
    scorer: Scorers = Field(
        default=None,
        description="the judge that selects; several: their mean; none: a built-in model's own, "
        f"and {DEFAULT_CLIP} for others",
    )
    judge: tuple[Text, ...] = Field(
        default=(),
        max_length=MAX_JUDGES,
        description="a judge that only grades the finished pictures; none: a built-in model's own",
    )
    probe: Text | None = Field(
        default=None, description="trained probe; none: the model's own, or previews"
    )
    llm: Text | None = Field(
        default=None, description="LLM that proposes rewrites; none: agents do"
    )
    allow_model: tuple[Text, ...] = Field(
        default=(), description="another model that agents may use"
    )
    budget_cap: Budget = Field(
        default=BUDGETS["heavy"], description="the most that a call may ask for"
    )
    generation: Generation = Field(
        default=Generation(),
        description="how pictures are made, unless a call asks for other steps, guidance or size, "
        "or another negative prompt; of other models that agents may use, only dtype, device and "
        "offload",
    )

    @property
    def models(self) -> tuple[str, ...]:
        """The models that a call may use, the default first."""
        return tuple(dict.fromkeys([self.model, *self.allow_model]))

    def generation_for(self, model: str, asked: Picture) -> Generation:
        """The owner's settings for a model, with what a call asks for."""
        own = dict(self.generation)
        if model != self.model:
            own = {name: own[name] for name in MACHINE}
        return Generation(**own | {name: getattr(asked, name) for name in asked.model_fields_set})

    def optimize_request(self, given: Mapping[str, Any]) -> OptimizeRequest:
        """The request from an agent's arguments for optimize_prompt.

        Raises:
            ValueError: an argument is unknown, out of bounds or above a cap.
        """
        arguments, drawn_by = self._checked(OptimizeArguments, given)
        budget = self._budget(arguments, "budget" in given)
        own = {name: getattr(self, name) for name in ("scorer", "judge", "probe", "llm")}
        return checked(OptimizeRequest, {**dict(arguments), **drawn_by, **own, "budget": budget})

    def probe_request(self, given: Mapping[str, Any]) -> ProbeRequest:
        """The request from an agent's arguments for probe_prompts.

        Raises:
            ValueError: an argument is unknown or out of bounds.
        """
        arguments, drawn_by = self._checked(ProbeArguments, given)
        own = {name: getattr(self, name) for name in ("scorer", "probe")}
        return checked(ProbeRequest, {**dict(arguments), **drawn_by, **own})

    def _checked(self, record: type[A], given: Mapping[str, Any]) -> tuple[A, dict[str, Any]]:
        """The arguments, and the model, which the agent may name if allowed, with its settings."""
        given = dict(given)
        model = self.model
        if self.allow_model and (named := given.pop("model", None)) is not None:
            if named not in self.models:
                names, meant = ", ".join(self.models), did_you_mean(named, self.models)
                raise ValueError(f"model: expected one of {names} (got {named!r:.80}){meant}")
            model = named
        arguments = checked(record, given)
        check_steps(arguments.generation)
        settings = self.generation_for(model, arguments.generation)
        return arguments, {"model": model, "generation": settings}

    def _budget(self, arguments: OptimizeArguments, given: bool) -> Budget:
        """The budget of a call; one that names none gets the default, lowered to the cap."""
        budget = budget_of(arguments.budget)
        caps = {name: cap for name, cap in self.budget_cap if cap is not None}
        values = {name: getattr(budget, name) for name in caps}
        over = {n: v for n, v in values.items() if v is not None and v > caps[n]}
        if given and over:
            limits = ", ".join(f"{name} at most {caps[name]} (got {v})" for name, v in over.items())
            raise ValueError(f"budget: the owner of this server allows {limits}")
        allowed = {n: caps[n] if v is None else min(v, caps[n]) for n, v in values.items()}
        return budget.model_copy(update=allowed)


def check_steps(picture: Picture) -> None:
    """Raise ValueError if a call asks for too many denoising steps."""
    if picture.steps > MAX_STEPS:
        raise ValueError(f"generation.steps: at most {MAX_STEPS} here (got {picture.steps})")


def check_area(picture: Picture, default: Picture) -> None:
    """Raise ValueError if a picture is too large for a model that by default draws `default`."""
    usual = (default.height or 0) * (default.width or 0)
    height, width = picture.height or default.height or 0, picture.width or default.width or 0
    if usual and height * width > MAX_AREA * usual:
        raise ValueError(
            f"generation: {width} x {height} pixels are too many (this model was made for "
            f"{default.width} x {default.height}, and at most {MAX_AREA} times as many pixels are "
            "drawn here); ask for a smaller width or height"
        )
