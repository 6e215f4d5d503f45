"""Sprites and Sprites-flow as built-in models: the only interface for the rest of promptprobe."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from promptprobe.tools.models.built_in import BuiltIn, Evidence
from promptprobe.tools.scorers.table import Judge, Opened
from promptprobe.tools.sprites import CLIP, WEIGHTS

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


PIXELS = 64


def open_scorer(_argument: str, _device: str) -> Opened:
    """Compares the objects that the detector finds with the brief's scene."""
    from promptprobe.tools.sprites.judges.scorer import score_images

    return Opened(lambda brief, images: score_images(brief, _canvas(images)))


def open_critic(_argument: str, _device: str) -> Opened:
    """Scores how well formed a picture is, whatever it shows."""
    from promptprobe.tools.sprites.judges.critic import score_images

    return Opened(lambda _brief, images: score_images(_canvas(images)))


def open_clip(_argument: str, device: str) -> Opened:
    """Similarity by a small CLIP of this world."""
    from promptprobe.tools.scorers import clip

    return clip.open_clip(str(CLIP), device)


def open_segments(_argument: str, _device: str) -> Opened:
    """The second judge, which finds objects without the detector."""
    from promptprobe.tools.sprites.judges.segments import judge_images

    return Opened(lambda brief, images: judge_images(brief, _canvas(images)))


def check_brief(brief: str) -> list[str]:
    """Warnings about a brief. ValueError: the model cannot draw what it asks for."""
    from promptprobe.tools.sprites import briefs

    return briefs.check_brief(brief)


def check_rewrite(brief: str, rewrite: str) -> str | None:
    """Why a rewrite differs from its brief; empty if they ask for the same scene.

    None if either is not wholly in the language of Sprites.
    """
    from promptprobe.tools.sprites.language import read

    before, after = read(brief), read(rewrite)
    if not before.scene or not after.scene or before.unknown or after.unknown:
        return None
    if before.scene != after.scene:
        return f"it asks for {after.scene.key!r}, the brief for {before.scene.key!r}"
    if changed := _holding(brief) ^ _holding(rewrite):
        return f"it changes what is {' or '.join(sorted(changed))} what"
    return ""


def rewrites(brief: str, seed: int) -> Iterator[str]:
    """The brief in the words that are most common in training, then in other wordings."""
    from promptprobe.tools.sprites.lexicon import wordings

    return wordings(brief, seed)


def evidence() -> Evidence:
    """Held-out scenes and their language, for evals."""
    from promptprobe.tools.sprites.evidence import EVIDENCE

    return EVIDENCE


def _holding(text: str) -> set[str]:
    """The words "in" and "on" that place one thing in or on another, which Sprites ignores."""
    apart = re.sub(r"\bin the company of\b|\bon (?:top|the left|the right) of\b", "", text.lower())
    return set(re.findall(r"\b(in|on) (?=(?:an?|the|two|three|four|\d+) )", apart))


def _canvas(images: Sequence[Image.Image]) -> np.ndarray:
    """Images as uint8 [image, 64, 64, 3], resized if needed, since these judges know one size."""
    import numpy as np
    from PIL import Image

    size = (PIXELS, PIXELS)
    colour = [image.convert("RGB") for image in images]
    fitted = [
        image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
        for image in colour
    ]
    return np.stack([np.asarray(image) for image in fitted])


JUDGES = (
    Judge(
        name="sprites",
        sees="objects, colours, counts and places of a Sprites picture, found by a detector, "
        "against the brief's scene",
        range="0 to 1",
        words=True,
        licence="Apache-2.0 (ships with promptprobe)",
        citation="CenterNet, Zhou et al. 2019, arXiv 1904.07850",
        opens=f"{__name__}:open_scorer",
    ),
    Judge(
        name="segments:sprites",
        sees="the same, found by colour segmentation and mask matching; shares nothing with the "
        "detector",
        range="0 to 1",
        words=True,
        licence="Apache-2.0 (ships with promptprobe)",
        opens=f"{__name__}:open_segments",
    ),
    Judge(
        name="critic:sprites",
        sees="how well formed a Sprites picture is, whatever it shows",
        range="0 to 1",
        licence="Apache-2.0 (ships with promptprobe)",
        opens=f"{__name__}:open_critic",
    ),
    Judge(
        name="clip:sprites",
        sees="cosine similarity by a small CLIP of the Sprites world",
        range="-1 to 1",
        usual=(-1.0, 1.0),
        licence="Apache-2.0 (ships with promptprobe)",
        opens=f"{__name__}:open_clip",
    ),
)
_SPRITES = BuiltIn(
    name="sprites",
    pipeline=WEIGHTS / "pipeline",
    probe=WEIGHTS / "probe",
    draws="up to a few of twelve things (cat, car, house, tree, ...), with colours, counts and "
    "places, as pictures of 64 x 64 pixels; a brief that asks for another thing is refused",
    size=PIXELS,
    guidance=2.0,
    scorer="sprites",
    judge="segments:sprites",
    judges=JUDGES,
    check_brief=check_brief,
    check_rewrite=check_rewrite,
    rewrites=rewrites,
    rewriter="the offline lexicon of Sprites (rules and word lists, no LLM)",
    evidence=evidence,
)
MODELS = {
    "sprites": _SPRITES,
    "sprites-flow": replace(
        _SPRITES,
        name="sprites-flow",
        pipeline=WEIGHTS / "flow",
        probe=WEIGHTS / "flow-probe",
        guidance=1.0,
    ),
}
