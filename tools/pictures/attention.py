"""What each word looked at, kept small beside each preview, and drawn over it when it is shown.

A file beside the preview holds the words' maps next to each other as shades of grey, and what share
of a place's attention the brightest stands for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from promptprobe.probe.files import replacing
from promptprobe.tools.pictures.heatmaps import overlay

if TYPE_CHECKING:
    from promptprobe.probe.trace import Trace

MOST_WORDS, SIDE = 24, 32
"""Words of a prompt that are kept, and places along a side of a map, at most."""
SUFFIX = ".attention.png"
ABOUT = "attention"
"""The PNG's text chunk that says how many words there are, and the peak."""


@dataclass(frozen=True)
class Attention:
    """The maps of a candidate's first words, in their order."""

    maps: Float[np.ndarray, "word row col"]
    peak: float
    """The largest share of a place's attention that any of them gets."""

    def over(self, preview: Image.Image, peak: float) -> list[Image.Image]:
        """A picture a word: its map over the preview, in colours that run from 0 to the peak."""
        return [overlay(preview, one, peak) for one in self.maps]


def save_attention(folder: Path | None, names: Sequence[str], trace: Trace) -> None:
    """Keep the maps of each candidate of a trace beside its preview; nothing without a folder.

    Raises:
        OSError: the folder cannot be written.
    """
    if folder is None:
        return
    averaged = np.nan_to_num(trace.maps.mean(2).cpu().numpy())
    for name, words, maps in zip(names, trace.words, averaged, strict=True):
        if words:
            _save(folder / f"{name}{SUFFIX}", maps[: min(len(words), MOST_WORDS)])


def attention_of(preview: Path) -> Attention | None:
    """What was kept beside a preview; None where there is nothing, or nothing that can be meant."""
    try:
        with Image.open(preview.with_suffix(SUFFIX)) as opened:
            width, height = opened.size
            about = json.loads(opened.info.get(ABOUT, ""))
            count, peak = int(about["words"]), float(about["peak"])
            fits = 0 < count <= MOST_WORDS and width <= count * SIDE and height <= SIDE
            if not fits or width % count or opened.mode != "L" or not 0 < peak <= 1:
                return None
            shades = np.asarray(opened, np.float32)
    except (OSError, ValueError, SyntaxError, KeyError, TypeError):
        return None
    maps = shades.reshape(height, count, width // count).transpose(1, 0, 2)
    return Attention(maps / 255 * peak, peak)


def _save(path: Path, maps: Float[np.ndarray, "word row col"]) -> None:
    peak = min(1.0, float(maps.max()))
    if peak <= 0:
        return
    strip = np.concatenate(list((maps / peak * 255).clip(0, 255).round().astype(np.uint8)), axis=1)
    info = PngInfo()
    info.add_text(ABOUT, json.dumps({"words": len(maps), "peak": peak}))
    with replacing(path) as partial:
        Image.fromarray(strip).save(partial, "PNG", pnginfo=info)
