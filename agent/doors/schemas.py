"""What may be asked of promptprobe: one set of models for Python, the CLI, MCP and OpenAI tools.

Every door validates its input here, so a bound or an error message is written once. Where results
go (`out`) is not part of a request: the owner of the machine decides that, not a remote agent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from promptprobe.agent.rewrite.json_schema import strict_schema
from promptprobe.agent.rewrite.proposers import Rewrite
from promptprobe.tools.records import BUDGETS, MAX_RENDERS, Budget, Generation, Record, Seed, Text

MAX_PROMPTS = 64
MAX_REWRITES = 256
MAX_SEEDS = 64
MAX_PROBES = 256

OPTIMIZE = (
    "Find the prompt and seed with which a text-to-image model draws a brief best. Candidates are "
    "judged after a few denoising steps; only the most promising are rendered in full and scored. "
    "Pass your own rewrites of the brief as `prompts`, read the explanations, and call again with "
    "better ones; without `prompts` the server proposes rewrites itself."
)
PROBE = (
    "Predict how well prompts x seeds would draw a brief, from the first denoising steps alone: no "
    "picture is rendered. Cheap; use it to compare wordings before optimize_prompt."
)


class Request(Record):
    """Null means "the default", where there is one: strict schemas have no optional field."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_the_default(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        generation = data.get("generation")
        if isinstance(generation, dict):
            data = {**data, "generation": {k: v for k, v in generation.items() if v is not None}}
        return {key: value for key, value in data.items() if value is not None}


def _a_budget(given: Any) -> Any:
    """A name, or a number of renders that may stand in a text; a table is checked as a `Budget`."""
    if isinstance(given, Mapping | Budget) or given in BUDGETS:
        return given
    try:
        renders = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        renders = math.nan
    if not 1 <= renders <= MAX_RENDERS:
        raise ValueError(
            f"expected {', '.join(BUDGETS)}, or denoising in renders' worth as a number from 1 to "
            f"{MAX_RENDERS:,}, got {_short(given)}"
        )
    return renders


BudgetRequest = Annotated[
    Literal["light", "medium", "heavy"] | float | Budget, BeforeValidator(_a_budget)
]


class OptimizeRequest(Request):
    """A brief, and how to search for its best prompt and seed."""

    brief: Text = Field(description="what the picture should show; every score is against it")
    prompts: tuple[Text, ...] | None = Field(
        None,
        min_length=1,
        max_length=MAX_REWRITES,
        description="your own rewrites of the brief; none: the server proposes them",
    )
    rewrite: Rewrite = Field(
        "enrich",
        description="how free an LLM is: faithful (other words, nothing added), enrich (may add "
        "detail that contradicts nothing), off (the wording stays, only seeds are searched)",
    )
    keep: tuple[Text, ...] = Field(
        (), max_length=32, description="text that must survive verbatim in every prompt"
    )
    model: Text = Field(
        "sprites",
        description='"sprites" or "sprites-flow" (built in), a diffusers folder, or a Hugging Face '
        "hub id of a Stable Diffusion, FLUX.1, Qwen-Image, Z-Image or PixArt-Sigma pipeline",
    )
    llm: Text | None = Field(
        None, description="name of an LLM behind OPENAI_BASE_URL, which proposes rewrites"
    )
    scorer: Text | None = Field(
        None,
        description='"sprites", "clip:sprites" (its small CLIP), "critic:sprites" (only how '
        'well formed a picture is) or "clip:FOLDER_OR_HUB_ID"; none: '
        "the model's own default",
    )
    probe: Text | None = Field(
        None,
        description="folder or Hugging Face hub id of a probe that `promptprobe train` made for "
        "model and scorer; none: the one shipped with a built-in model, previews for others",
    )
    budget: BudgetRequest = Field(
        "light",
        description="how much may be spent on denoising, in renders' worth (1 is one full image): "
        "light is 4, medium 8, heavy 24, or any number",
    )
    seed: Seed = Field(0, description="first seed; the others follow from it")
    generation: Generation = Field(Generation(), description="how pictures are made")


class ProbeRequest(Request):
    """Prompts x seeds to look at after a few denoising steps."""

    brief: Text = Field(description="what the picture should show; predictions are against it")
    prompts: tuple[Text, ...] = Field(
        min_length=1, max_length=MAX_PROMPTS, description="wordings to compare"
    )
    seeds: tuple[Seed, ...] = Field(
        (0, 1, 2, 3),
        min_length=1,
        max_length=MAX_SEEDS,
        description="seeds, the same for every prompt",
    )
    model: Text = Field("sprites", description="as in optimize_prompt")
    scorer: Text | None = Field(None, description="as in optimize_prompt")
    probe: Text | None = Field(None, description="as in optimize_prompt")
    generation: Generation = Field(Generation(), description="how pictures would be made")

    @model_validator(mode="after")
    def _bounded(self) -> ProbeRequest:
        if len(self.prompts) * len(self.seeds) > MAX_PROBES:
            raise ValueError(
                f"at most {MAX_PROBES} candidates a call, got {len(self.prompts)} prompts x "
                f"{len(self.seeds)} seeds; ask for fewer, or call twice"
            )
        return self


TOOLS: dict[str, tuple[str, type[Request]]] = {
    "optimize_prompt": (OPTIMIZE, OptimizeRequest),
    "probe_prompts": (PROBE, ProbeRequest),
}


R = TypeVar("R", bound=Record)


def checked(record: type[R], fields: Mapping[str, Any]) -> R:
    """The record of what a caller gave.

    Raises:
        ValueError: one line that names each bad field, what was expected and what came.
    """
    try:
        return record.model_validate(fields)
    except ValidationError as error:
        raise ValueError(explain(error)) from None


def explain(error: ValidationError) -> str:
    """One line that names each bad field, what was expected and what came."""
    found = []
    for problem in error.errors(include_url=False, include_context=False):
        came = problem["input"]
        if "budget" in problem["loc"] and problem["type"] in ("literal_error", "float_type"):
            continue  # the other parts of the union: a table was given
        parts = [str(p) for p in problem["loc"] if not str(p).startswith("Budget")]
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown field"
        said = isinstance(came, dict) or problem["type"] == "value_error"
        shown = "" if said else f" (got {_short(came)})"
        found.append(f"{'.'.join(parts)}{': ' if parts else ''}{message}{shown}")
    return "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")


def _short(value: object, limit: int = 60) -> str:
    if isinstance(value, str) and len(value) > limit:
        return f"{value[:limit]!r}... of {len(value):,} characters"
    text = repr(value[:limit]) if isinstance(value, list | tuple) else repr(value)
    return text if len(text) <= limit else text[:limit] + "..."


def openai_tools() -> list[dict[str, Any]]:
    """The tools as Chat Completions takes them: `client.chat.completions.create(tools=...)`."""
    return [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": description,
                "strict": True,
                "parameters": strict_schema(request),
            },
        }
        for name, (description, request) in TOOLS.items()
    ]
