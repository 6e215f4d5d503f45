"""The records exchanged between tools and agent: frozen, validated, and serializable as JSON.

They contain no tensors and no images. One set of models serves Python, the CLI, MCP and tool
schemas. Bounds are part of the schema, because briefs and prompts come from anywhere.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from promptprobe.probe.families import CARRIED
from promptprobe.tools.nearest import did_you_mean

MAX_TEXT = 4000
MAX_SEED = 2**53 - 1
MAX_RENDERS = 10_000
MOST_LORAS = 16
MOST_LORA_WEIGHT = 10.0
LORA_SCALES = {"cross_attention_kwargs", "joint_attention_kwargs", "attention_kwargs"}
"""Arguments of diffusers pipelines that scale all LoRA at once."""
IN_MEMORY = "pipeline object"
"""The name of a model that was passed as a Python object: no file describes it completely."""


def _without_controls(text: str) -> str:
    found = sorted({c for c in text if (ord(c) < 32 and c not in "\t\n\r") or ord(c) == 127})
    if found:
        raise ValueError(f"expected text, got control characters {found[:3]}: is this binary data?")
    return text


def _no_truth(given: Any) -> Any:
    if isinstance(given, bool):  # pydantic takes it as 1 or 0
        raise ValueError(f"expected a whole number, got {given}")
    return given


Text = Annotated[
    str,
    StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=MAX_TEXT),
    AfterValidator(_without_controls),
]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED), BeforeValidator(_no_truth)]
Unit = Annotated[float, Field(ge=0, le=1)]
Basis = Literal["probe", "preview"]


class Record(BaseModel):
    """A frozen, content-addressed model that refuses unknown fields and non-finite numbers."""

    # Built on first use: building all of them took a third of the time of --help.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    @property
    def key(self) -> str:
        """A hash of the content, as sixteen hex digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


class Picture(Record):
    """Settings of a picture other than its prompt; None means the model's own default."""

    steps: int = Field(default=25, ge=1, le=1000, description="denoising steps of a full render")
    guidance: float | None = Field(
        default=None, ge=0, le=100, description="classifier-free guidance scale"
    )
    height: int | None = Field(default=None, ge=8, le=8192, description="pixels")
    width: int | None = Field(default=None, ge=8, le=8192, description="pixels")
    negative_prompt: str | None = Field(
        default=None, max_length=MAX_TEXT, description="what the picture should not show"
    )


class CallArguments(Record):
    """Other arguments of the pipeline's call, by diffusers' names; None means its default."""

    guidance_rescale: float | None = Field(
        default=None, ge=0, le=1, description="Stable Diffusion 1.x to 2.x and XL"
    )
    clip_skip: int | None = Field(
        default=None, ge=1, le=11, description="CLIP layers to skip; Stable Diffusion XL and 3"
    )
    eta: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="eta of DDIM; Stable Diffusion 1.x to 2.x and XL, PixArt-Sigma",
    )
    max_sequence_length: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="tokens of T5 or Qwen; SD3, FLUX.1, PixArt, Qwen-Image",
    )

    @model_validator(mode="before")
    @classmethod
    def _known(cls, data: Any) -> Any:
        given = data if isinstance(data, dict) else {}
        unknown = [name for name in given if name not in cls.model_fields]
        if LORA_SCALES & set(unknown):
            raise ValueError("a LoRA's weight is part of --lora: --lora FILE_OR_ID:0.5")
        if unknown:
            raise ValueError(
                f"expected {', '.join(cls.model_fields)}, got {str(unknown[0])[:80]!r}"
            )
        return data


def lora_of(text: str) -> tuple[str, float]:
    """File, folder or hub id of a LoRA, and its weight: `ID_OR_FILE` or `ID_OR_FILE:WEIGHT`.

    Raises:
        ValueError: no name, or a weight beyond MOST_LORA_WEIGHT.
    """
    source, colon, suffix = text.rpartition(":")
    try:
        weight = float(suffix)
    except ValueError:
        colon = ""
    source, weight = (source, weight) if colon else (text, 1.0)
    if not source or not abs(weight) <= MOST_LORA_WEIGHT:
        raise ValueError(
            f"expected a file or hub id, with a weight of at most {MOST_LORA_WEIGHT} after a "
            f"colon if it is not 1, got {text[:80]!r}"
        )
    return source, weight


def _lora(text: str) -> str:
    lora_of(text)
    return text


def _scheduler(name: str) -> str:
    if name not in CARRIED:
        raise ValueError(
            f"no scheduler of this name can be stopped and continued exactly"
            f"{did_you_mean(name, CARRIED)}: expected one of {', '.join(CARRIED)}"
        )
    return name


Lora = Annotated[Text, AfterValidator(_lora)]
Scheduler = Annotated[Text, AfterValidator(_scheduler)]


class Generation(Picture):
    """How images are made, and where; None means the model's own default."""

    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        default=None, description="dtype of the model's weights and activations"
    )
    device: str | None = Field(default=None, description='"cpu", "cuda", "cuda:1", "mps"')
    scheduler: Scheduler | None = Field(
        default=None, description="a diffusers class, such as DPMSolverMultistepScheduler"
    )
    lora: tuple[Lora, ...] = Field(
        default=(),
        max_length=MOST_LORAS,
        description="LoRA to add to the weights: a .safetensors file, a folder, a hub id, or "
        "USER/NAME/FILE on the hub",
    )
    offload: bool = Field(
        default=False, description="keep parts of the model off the GPU while they are not needed"
    )
    extra: CallArguments | None = Field(default=None, description="other arguments of the pipeline")


class Budget(Record):
    """How much a run may spend. Prompts, seeds and looks are planned from it, or can be fixed."""

    renders: float = Field(
        default=4,
        ge=1,
        le=MAX_RENDERS,
        description="denoising, in renders' worth: 1 is one full image",
    )
    seconds: float | None = Field(default=None, gt=0, description="maximum seconds of the run")
    llm_calls: int | None = Field(default=None, ge=0, description="maximum requests to the LLM")
    tokens: int | None = Field(
        default=None, ge=0, description="maximum tokens of the LLM, prompts and completions"
    )
    usd: float | None = Field(
        default=None, ge=0, description="maximum price of the LLM, if its prices are given"
    )
    prompts: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="prompts per round, including the brief; none: planned",
    )
    seeds: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="seeds started per prompt in a round; none: planned",
    )
    keep: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="candidates per round that are rendered in full; none: planned",
    )

    @property
    def most(self) -> int | None:
        """Candidates per round, if that is fixed."""
        return None if self.seeds is None else self.seeds * (self.prompts or 1)


BUDGETS: dict[str, Budget] = {
    "light": Budget(renders=4),
    "medium": Budget(renders=8),
    "heavy": Budget(renders=24),
}


def budget_of(given: str | float | Budget) -> Budget:
    """The budget that a name or a number of renders stands for."""
    if isinstance(given, Budget):
        return given
    return BUDGETS[given] if isinstance(given, str) else Budget(renders=given)


class Candidate(Record):
    """A (prompt, seed) pair."""

    prompt: Text
    seed: Seed


class Word(Record):
    """What the early steps predict about one word of the prompt."""

    word: str
    focus: Unit = Field(description="0: attention spread evenly, 1: settled on one place")
    drawn: Unit | None = Field(
        default=None, description="chance of being drawn as asked; None if unknown"
    )


class Prediction(Record):
    """The predicted score of a candidate after a few denoising steps."""

    score: float = Field(description="predicted score of the finished image")
    low: float | None = Field(default=None, description="lower end of the 90% interval")
    high: float | None = None
    basis: Basis = Field(
        description="a trained probe, which sees attention and the x0 preview's score; "
        "or only that score, which is uncalibrated"
    )
    preview: float | None = Field(default=None, description="the scorer's score of the x0 preview")
    explanation: str = ""
    words: tuple[Word, ...] = ()


class Look(Record):
    """What was seen of a candidate after some of its steps."""

    step: int = Field(ge=1, description="denoising steps made by then")
    prediction: Prediction | None = Field(description="None: `reason` says why")
    reason: str = ""
    preview: Path | None = Field(default=None, description="picture of the decoded x0, if kept")


class Verdict(Record):
    """A judge's verdict on one word of the brief."""

    word: str = Field(max_length=MAX_TEXT)
    ok: bool = Field(description="whether the picture shows what the word asks for")
    chance: Unit = Field(description="probability of `ok`, informative even for blurred pictures")


class Score(Record):
    """A judge's score of an image. Unscored (no value) does not mean zero: `reason` says why."""

    value: float | None = None
    correct: bool | None = Field(
        default=None, description="whether nothing is missing; None: the judge cannot tell"
    )
    explanation: str = ""
    extras: int = Field(
        default=0,
        ge=0,
        description="number of things in the picture that nobody asked for; only breaks ties",
    )
    reason: str = Field(default="", description="why there is no value")
    failed: bool = Field(
        default=False, description="whether the judge failed, rather than had nothing to judge"
    )
    words: tuple[Verdict, ...] = Field(
        default=(), max_length=200, description="in the brief's order"
    )


class Trial(Record):
    """A candidate with its looks and, if it was rendered, its image and score."""

    candidate: Candidate
    round: int = Field(ge=0, description="0: the brief itself with the first seed")
    looks: tuple[Look, ...] = Field(default=(), description="in the order of their steps")
    prediction: Prediction | None = Field(default=None, description="the latest prediction")
    latents: Path | None = Field(
        default=None, description="state after the last look, to continue from"
    )
    image: Path | None = None
    score: Score | None = None
    judged: dict[str, Score] = Field(
        default={}, description="grades by judges that never select, by the judge's name"
    )

    @property
    def value(self) -> float | None:
        """The score, if there is one."""
        return self.score.value if self.score else None

    @property
    def predicted(self) -> float | None:
        """The predicted score, if there is one."""
        return self.prediction.score if self.prediction else None

    @property
    def preview(self) -> Path | None:
        """The latest picture of a decoded x0 that was kept."""
        return next((look.preview for look in reversed(self.looks) if look.preview), None)


class Spend(Record):
    """What a run has cost so far."""

    nfe: int = Field(default=0, description="denoiser evaluations, two per step under guidance")
    seconds: float = 0.0
    llm_calls: int = 0
    tokens: int = Field(default=0, description="LLM tokens, as far as its endpoint counts them")
    usd: float = Field(default=0.0, description="price of these tokens, if prices were given")
