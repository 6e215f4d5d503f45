"""Attention maps of each word, stored small next to each preview and drawn over it when shown.

A PNG next to the preview holds the words' maps side by side in shades of grey, and the share of a
position's attention that white stands for.
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
"""Maximum number of words kept for a prompt, and of positions along a side of a map."""
SUFFIX = ".attention.png"
ABOUT = "attention"
"""The PNG's text chunk with the number of words and the peak."""


@dataclass(frozen=True)
class Attention:
    """The maps of a candidate's first words, in their order."""

    maps: Float[np.ndarray, "word row col"]
    peak: float
    """The largest share of a position's attention that any word gets."""

    def over(self, preview: Image.Image, peak: float) -> list[Image.Image]:
        """A picture for each word: its map over the preview, in colours from 0 to the peak."""
        return [overlay(preview, one, peak) for one in self.maps]


def save_attention(folder: Path | None, names: Sequence[str], trace: Trace) -> None:
    """Save the maps of each candidate of a trace next to its preview; without a folder, do nothing.

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
    """The maps saved next to a preview; None if there are none, or they are invalid."""
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
