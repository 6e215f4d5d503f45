"""Rasterizes icons into `silhouettes.png`: a row of solid 96 x 96 tiles, one for each noun.

Run it once, with the npm package `@iconify-json/fluent-emoji-high-contrast` 1.2.6 unpacked:
`python -m promptprobe.tools.sprites.train.rasterize node_modules/@iconify-json/.../icons.json`
(needs `pip install resvg-py`). Outlined icons are filled, as solid shapes read better when small.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from resvg_py import svg_to_bytes
from scipy.ndimage import binary_fill_holes

from promptprobe.tools.sprites.draw import SILHOUETTES
from promptprobe.tools.sprites.world import NOUNS

ICONS = {
    "bird": "bird", "car": "automobile", "cat": "black-cat", "fish": "fish",
    "heart": "heart-suit", "house": "house", "key": "key", "moon": "crescent-moon",
    "mushroom": "mushroom", "star": "star", "tree": "deciduous-tree", "umbrella": "umbrella",
}  # fmt: skip
TILE = 96
OVERSAMPLE = 8


def rasterize(body: str) -> Image.Image:
    """One icon as a filled mask, cropped to its shape and centred in a square tile."""
    side = TILE * OVERSAMPLE
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" width="{side}" '
        f'height="{side}">{body}</svg>'
    )
    with Image.open(io.BytesIO(bytes(svg_to_bytes(svg_string=svg)))) as icon:
        solid = binary_fill_holes(np.asarray(icon.convert("RGBA"))[..., 3] > 127)
    mask = Image.fromarray(solid.astype(np.uint8) * 255)
    shape = mask.crop(mask.getbbox())
    square = Image.new("L", (max(shape.size), max(shape.size)))
    square.paste(shape, ((square.width - shape.width) // 2, (square.height - shape.height) // 2))
    return square.resize((TILE, TILE), Image.Resampling.LANCZOS)


def main(icons: Path) -> None:
    bodies = json.loads(icons.read_text())["icons"]
    sheet = Image.new("L", (TILE * len(NOUNS), TILE))
    for column, noun in enumerate(NOUNS):
        sheet.paste(rasterize(bodies[ICONS[noun]]["body"]), (column * TILE, 0))
    sheet.save(SILHOUETTES, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
