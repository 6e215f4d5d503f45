"""The table of all judges that can be named: what each sees, its range, licence and source.

This is the only list of judges: `open_scorer`, `promptprobe judges`, the options' help and
docs/judges.md are made from it. A judge's code is imported when it is opened. For all judges,
higher is better.
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
"""A judge's name, or the caller's own function."""
HERE = "promptprobe.tools.scorers"
JOINT = " + "
"""Separates the names of several scorers that select by their mean."""
TARGET = " score"
"""What follows a judge's name in that of its score: see `target_of`."""
UNIT = (0.0, 1.0)
DEFAULT_CLIP = "clip:openai/clip-vit-base-patch32"
"""The scorer used if none is named and the model is not a built-in one."""


@dataclass(frozen=True)
class Opened:
    """A judge that is ready to use."""

    score_images: ScoreImages
    """From brief and images, one score per image, in order. It may raise."""
    unread: Callable[[str], Sequence[str]] = lambda brief: ()
    """The words of a brief that it does not read."""
    may_decline: bool = False
    """Whether a score without a value is a valid answer, as from the caller's own function."""
    usual: tuple[float, float] | None = None
    """The usual range of its values, if it differs from the table's."""
    tried_on: int = 1
    """Number of noise images to test it on; two show whether batch code scores each image."""


class Judge(Record):
    """An entry of the table."""

    name: str = Field(description="its name for --scorer; words in capitals are placeholders")
    sees: str = Field(description="what it looks at, and what its score says")
    range: str = Field(description="range of its scores; higher is better")
    usual: tuple[float, float] = Field(
        default=UNIT,
        description="the values that are mapped to 0 and 1 when several scorers are combined",
    )
    words: bool = Field(
        default=False, description="whether it also judges the brief's words one by one"
    )
    licence: str = Field(description="licence of the weights or the service")
    citation: str = ""
    extra: str = Field(default="", description="the extra of promptprobe that it needs")
    opens: str = Field(description="module:function that opens it from its argument and a device")

    @property
    def prefix(self) -> str:
        """The part of its name before the colon, or all of it."""
        return self.name.partition(":")[0]

    @property
    def argument(self) -> str:
        """The part of its name after the colon; a placeholder if it is in capitals."""
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
    """The names of the judges in a scorer's name; for a single judge, just its own."""
    return tuple(part.strip() for part in name.split(JOINT))


def specs_of(spec: Spec | Sequence[Spec]) -> tuple[Spec, ...]:
    """The individual judges in one spec, several specs, or a joint name."""
    if isinstance(spec, str):
        return parts_of(spec)
    if isinstance(spec, Sequence):
        return tuple(one for part in spec for one in specs_of(part))
    return (spec,)


def name_of(function: Callable[..., Any]) -> str:
    """The name of a caller's function, also inside of a `partial`."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)


def target_of(judge: str) -> str:
    """The name of a judge's score in shards and cards; the order of several does not matter."""
    return f"{JOINT.join(sorted(parts_of(judge)))}{TARGET}"


def scored(name: str, value: float, explanation: str = "") -> Score:
    """The score of a judge that returned this value; unscored if it is not finite."""
    if not math.isfinite(value):
        return Score(reason=f"{name} returned {value}; expected a finite number")
    return Score(value=value, explanation=explanation)
