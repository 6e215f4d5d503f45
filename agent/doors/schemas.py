"""Requests to promptprobe: one set of models for Python, the CLI, MCP and tool calls.

Every door validates its input here, so bounds and error messages are written once. `...Arguments`
are what an agent may set; `...Request` adds what the owner of the machine decides: model, scorer,
probe, LLM and device. The output folder is part of neither.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from promptprobe.agent.rewrite.proposers import Rewrite
from promptprobe.probe.families import KNOWN_AS
from promptprobe.tools.nearest import did_you_mean
from promptprobe.tools.records import (
    BUDGETS,
    MAX_RENDERS,
    Budget,
    Generation,
    Picture,
    Record,
    Seed,
    Text,
)
from promptprobe.tools.scorers.table import DEFAULT_CLIP, JOINT, TABLE, parts_of

MAX_PROMPTS = 64
MAX_REWRITES = 256
MAX_SEEDS = 64
MAX_PROBES = 256
MAX_JUDGES = 8
TUPLES = ("too_short", "too_long", "tuple_type")
"""Pydantic errors whose messages mention tuples, which callers know as lists."""


class Request(Record):
    """Arguments from any client: null means the default, and lists or objects may be JSON text.

    Strict schemas have no optional fields, so null stands for the default; and some clients send
    every argument as a string.
    """

    @model_validator(mode="before")
    @classmethod
    def _as_meant(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        fields = cls.model_fields
        data = {
            name: _decoded(value) if name in fields and _holds(fields[name].annotation) else value
            for name, value in data.items()
            if value is not None
        }
        generation = data.get("generation")
        if isinstance(generation, dict):
            data["generation"] = {k: v for k, v in generation.items() if v is not None}
        return data


def _a_budget(given: Any) -> Any:
    """A name, or a number of renders, possibly as text; a mapping is validated as a `Budget`."""
    if isinstance(given, Mapping | Budget) or (isinstance(given, str) and given in BUDGETS):
        return given
    try:
        renders = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        renders = math.nan
    if not 1 <= renders <= MAX_RENDERS:
        raise ValueError(
            f"expected {', '.join(BUDGETS)}, or denoising in renders' worth as a number from 1 to "
            f"{MAX_RENDERS:,}, got {_short(given)}{did_you_mean(given, BUDGETS)}"
        )
    return renders


BudgetRequest = Annotated[
    Literal["light", "medium", "heavy"] | float | Budget, BeforeValidator(_a_budget)
]


def _holds(kind: Any) -> bool:
    """Whether values of this type may be lists or objects."""
    if get_origin(kind) is tuple or (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return True
    return get_origin(kind) is not Literal and any(map(_holds, get_args(kind)))


def _decoded(value: object) -> object:
    """The value of a JSON text; anything else is returned unchanged."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _in_one_name(given: Any) -> Any:
    """Join the names of several scorers into that of their mean, such as "ocr + pickscore"."""
    if isinstance(given, list | tuple):
        if not all(isinstance(name, str) for name in given):
            raise ValueError(f"expected names of judges, got {_short(given)}")
        given = JOINT.join(given) or None
    if isinstance(given, str) and (count := len(parts_of(given))) > MAX_JUDGES:
        raise ValueError(f"expected at most {MAX_JUDGES} scorers, got {count}")
    return given


Scorers = Annotated[Text | None, BeforeValidator(_in_one_name)]
"""One scorer, or several that select by their mean."""


class OptimizeArguments(Request):
    """A brief, and how to search for its best prompt and seed."""

    brief: Text = Field(description="what the picture should show; every score is against it")
    prompts: tuple[Text, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_REWRITES,
        description="your own rewrites of the brief; none: the server proposes them",
    )
    rewrite: Rewrite = Field(
        default="enrich",
        description="how free an LLM is: faithful (other words, nothing added), enrich (may add "
        "detail that contradicts nothing), off (the wording stays, only seeds are searched)",
    )
    keep: tuple[Text, ...] = Field(
        default=(), max_length=32, description="text that must survive verbatim in every prompt"
    )
    budget: BudgetRequest = Field(
        default="light",
        description="how much may be spent on denoising, in renders' worth (1 is one full image): "
        "light is 4, medium 8, heavy 24, or any number",
    )
    target: float | None = Field(
        default=None,
        description="a score at which to stop; none: only a picture that the scorer calls correct "
        "ends a run early",
    )
    seed: Seed = Field(default=0, description="first seed; the others follow from it")
    generation: Picture = Field(default=Picture(), description="how pictures are made")


class OptimizeRequest(OptimizeArguments):
    """The arguments, with the model, LLM, scorers and probe to use."""

    model: Text = Field(
        default="sprites",
        description='"sprites" or "sprites-flow" (built in), a diffusers folder, or a Hugging Face '
        f"hub id of a {KNOWN_AS} pipeline",
    )
    llm: Text | None = Field(
        default=None,
        description="LLM that proposes rewrites: a name at OPENAI_BASE_URL, or local:FOLDER_OR_ID",
    )
    scorer: Scorers = Field(
        None,
        description="the judge that selects, from `promptprobe judges`: "
        f"{', '.join(judge.name for judge in TABLE)}, or a built-in model's; several: their mean; "
        f"none: a built-in model's own, and {DEFAULT_CLIP} for others",
    )
    judge: tuple[Text, ...] = Field(
        default=(),
        max_length=MAX_JUDGES,
        description="a judge that only grades the finished pictures, from the same list; none: a "
        "built-in model's own",
    )
    probe: Text | None = Field(
        default=None,
        description="folder or Hugging Face hub id of a probe that `promptprobe train` made for "
        "model and scorer; none: the one shipped with a built-in model, previews for others",
    )
    generation: Generation = Field(default=Generation(), description="how pictures are made")


class ProbeArguments(Request):
    """Prompts x seeds to look at after a few denoising steps."""

    brief: Text = Field(description="what the picture should show; predictions are against it")
    prompts: tuple[Text, ...] = Field(
        min_length=1, max_length=MAX_PROMPTS, description="wordings to compare"
    )
    seeds: tuple[Seed, ...] = Field(
        default=(0, 1, 2, 3),
        min_length=1,
        max_length=MAX_SEEDS,
        description="seeds, the same for every prompt",
    )
    generation: Picture = Field(default=Picture(), description="how pictures would be made")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if len(self.prompts) * len(self.seeds) > MAX_PROBES:
            raise ValueError(
                f"at most {MAX_PROBES} candidates a call, got {len(self.prompts)} prompts x "
                f"{len(self.seeds)} seeds; ask for fewer, or call twice"
            )
        return self


class ProbeRequest(ProbeArguments):
    """The arguments, with the model, scorer and probe to use."""

    model: Text = Field(default="sprites", description="as in optimize_prompt")
    scorer: Scorers = Field(default=None, description="as in optimize_prompt")
    probe: Text | None = Field(default=None, description="as in optimize_prompt")
    generation: Generation = Field(default=Generation(), description="how pictures would be made")


R = TypeVar("R", bound=Record)


def checked(record: type[R], fields: Mapping[str, Any]) -> R:
    """Validate what a caller gave.

    Raises:
        ValueError: one line that names each bad field, what was expected and what was given.
    """
    try:
        return record.model_validate(fields)
    except ValidationError as error:
        raise ValueError(explain(error, record)) from None


def in_words(error: Exception) -> str:
    """The error's message; some errors, such as Python's own MemoryError, have none."""
    return str(error) or (
        "out of memory" if isinstance(error, MemoryError) else type(error).__name__
    )


def explain(error: ValidationError, record: type[BaseModel] | None = None) -> str:
    """One line that names each bad field, what was expected and what was given.

    Args:
        error: from pydantic.
        record: the model that was validated, to suggest the nearest name for an unknown field.
    """
    found = []
    problems = error.errors(include_url=False, include_context=False)
    outer = {problem["loc"][:-1] for problem in problems}
    for problem in problems:
        given = problem["input"]
        if problem["type"] == "too_short" and problem["loc"] in outer:
            continue  # it is not empty, but its items have errors, which are listed
        if "budget" in problem["loc"] and problem["type"] in ("literal_error", "float_type"):
            continue  # other members of the union; a mapping was given
        parts = [str(p) for p in problem["loc"] if not str(p).startswith("Budget")]
        meant, message = "", problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown field"
            meant = did_you_mean(parts[-1], _fields_at(record, parts[:-1]))
        if problem["type"] == "literal_error":
            meant = did_you_mean(given, re.findall("'([^']*)'", message))
        if problem["type"] in TUPLES:  # callers send lists
            message = message.replace("Tuple", "List").replace("tuple", "list")
        if problem["type"] == "model_type":
            message = "Input should be an object, with names and values"
        included = isinstance(given, dict) or problem["type"] == "value_error"
        shown = "" if included else f" (got {_short(given)})"
        found.append(f"{'.'.join(parts)}{': ' if parts else ''}{message}{shown}{meant}")
    return "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")


def _fields_at(record: type[BaseModel] | None, path: Sequence[str]) -> Iterable[str]:
    """The fields of the record at a path of field names; empty if there is none."""
    for name in path:
        field = record.model_fields.get(name) if record else None
        parts = (field.annotation, *get_args(field.annotation)) if field else ()
        nested = (one for one in parts if isinstance(one, type) and issubclass(one, BaseModel))
        record = next(nested, None)
    return record.model_fields if record else ()


def _short(value: object, limit: int = 60) -> str:
    if isinstance(value, str) and len(value) > limit:
        return f"{value[:limit]!r}... of {len(value):,} characters"
    text = repr(value[:limit]) if isinstance(value, list | tuple) else repr(value)
    return text if len(text) <= limit else text[:limit] + "..."
