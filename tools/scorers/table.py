"""Every judge that can be named: what it sees, the range of its scores, licence, source.

The table is the only list of judges: `open_scorer`, `promptprobe judges`, the options' help and
docs/judges.md are made from it. What a judge is made of is imported when it is opened. Higher is
better for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from promptprobe.tools.records import Record, Score

if TYPE_CHECKING:
    from PIL import Image

    Pictures = Sequence[Image.Image]
    ScoreImages = Callable[[str, Pictures], Sequence[Score]]

Spec = str | Callable[..., Any]
"""A judge's name, or a function of the caller's own."""
HERE = "promptprobe.tools.scorers"
JOINT = " + "
"""Stands between the names of several scorers that select as one."""
UNIT = (0.0, 1.0)
DEFAULT_CLIP = "clip:openai/clip-vit-base-patch32"
"""Who selects where nobody says who, and the model is not a built-in one."""


@dataclass(frozen=True)
class Opened:
    """A judge that is ready."""

    score_images: ScoreImages
    """Of brief and images, one score an image, in order. It may raise."""
    unread: Callable[[str], Sequence[str]] = lambda brief: ()
    """The words of a brief that it does not read."""
    may_decline: bool = False
    """Whether an image without a value is an answer: of the caller's own function it is."""
    usual: tuple[float, float] | None = None
    """Where its values lie, if elsewhere than its line of the table says."""
    tried_on: int = 1
    """Images of noise before a run; two show whether code that gets a list scores each of it."""


class Judge(Record):
    """A line of the table."""

    name: str = Field(description="how it is asked for; capitals stand for what is to be filled in")
    sees: str = Field(description="what it looks at, and what its score says")
    range: str = Field(description="of its scores; higher is better")
    usual: tuple[float, float] = Field(
        default=UNIT,
        description="what counts as 0 and as 1 where several scorers select as one",
    )
    words: bool = Field(
        default=False, description="whether it also judges the brief's words one by one"
    )
    licence: str = Field(description="of the weights, or of what answers")
    citation: str = ""
    extra: str = Field(default="", description="the extra of promptprobe that it needs")
    opens: str = Field(description="module:function that opens it, of its argument and a device")

    @property
    def prefix(self) -> str:
        """What its name begins with, or the whole of it."""
        return self.name.partition(":")[0]

    @property
    def argument(self) -> str:
        """What follows the colon: in capitals, what is to be filled in."""
        return self.name.partition(":")[2]


TABLE = (
    Judge(
        name="clip:ID",
        sees="cosine similarity of brief and image, by any CLIP or SigLIP; a brief longer than it "
        "reads is scored in parts",
        range="-1 to 1, mostly 0.1 to 0.4, of SigLIP 0 to 0.2",
        usual=(0.1, 0.4),
        licence="the model's",
        citation="Hessel et al. 2021, CLIPScore, arXiv 2104.08718; Zhai et al. 2023, SigLIP, "
        "arXiv 2303.15343",
        opens=f"{HERE}.clip:open_clip",
    ),
    Judge(
        name="pickscore",
        sees="which of two pictures of a brief people would pick",
        range="no bound, mostly 17 to 25",
        usual=(17.0, 25.0),
        licence="MIT (PickScore_v1)",
        citation="Kirstain et al. 2023, Pick-a-Pic, arXiv 2305.01569",
        opens=f"{HERE}.clip:open_pickscore",
    ),
    Judge(
        name="vqa:ID",
        sees="the probability that a local VLM answers yes when asked whether the image shows the "
        "brief",
        range="0 to 1",
        licence="the model's",
        citation="Lin et al. 2024, VQAScore, arXiv 2404.01291",
        opens=f"{HERE}.vqa:open_vqa",
    ),
    Judge(
        name="vlm:NAME",
        sees="the share of the brief's requirements that a VLM at an OpenAI-compatible endpoint "
        "finds met, with its reasons; probabilities where the endpoint gives them",
        range="0 to 1",
        words=True,
        licence="the endpoint's terms",
        citation="Cho et al. 2024, Davidsonian Scene Graph, arXiv 2310.18235",
        opens=f"{HERE}.vlm:open_vlm",
    ),
    Judge(
        name="ocr",
        sees="text that the brief puts in quotes against text that is found in the image, by "
        "normalized edit distance",
        range="0 to 1",
        words=True,
        licence="Apache-2.0 (RapidOCR and PP-OCR)",
        citation="RapidOCR, github.com/RapidAI/RapidOCR",
        extra="ocr",
        opens=f"{HERE}.ocr:open_ocr",
    ),
    Judge(
        name="http:URL",
        sees="whatever the service there looks at (see the protocol)",
        range="the service's; among several scorers 0 to 1",
        words=True,
        licence="the service's",
        opens=f"{HERE}.http:open_http",
    ),
    Judge(
        name="python:FILE.py:FUNCTION",
        sees="whatever your function looks at",
        range="the function's; among several scorers 0 to 1",
        words=True,
        licence="yours",
        opens=f"{HERE}.function:open_python",
    ),
    Judge(
        name="python:MODULE:FUNCTION",
        sees="the same, of a module that can be imported",
        range="the function's; among several scorers 0 to 1",
        words=True,
        licence="yours",
        opens=f"{HERE}.function:open_python",
    ),
)
"""Judges for any model; those of the built-in models are in their own records."""


def parts_of(name: str) -> tuple[str, ...]:
    """The names of the judges that a scorer's name joins; of a single judge, its own."""
    return tuple(part.strip() for part in name.split(JOINT))


def specs_of(spec: Spec | Sequence[Spec]) -> tuple[Spec, ...]:
    """Each judge by itself, of one, several, or several in one name."""
    if isinstance(spec, str):
        return parts_of(spec)
    if isinstance(spec, Sequence):
        return tuple(one for part in spec for one in specs_of(part))
    return (spec,)


def name_of(function: Callable[..., Any]) -> str:
    """How people call a function of their own: of one with arguments filled in, as without."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)


def scored(name: str, value: float, explanation: str = "") -> Score:
    """The score of a judge that gave this value: none where it is no finite number."""
    if not math.isfinite(value):
        return Score(reason=f"{name} returned {value}; expected a finite number")
    return Score(value=value, explanation=explanation)
