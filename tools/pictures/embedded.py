"""Pictures inside a page: small files as `data:` addresses, so that the page needs nothing else.

And the x0 previews of a run, which such pages show.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from promptprobe.probe.files import replacing

TINY = 160
"""Pixels up to which a picture stays as it is, without loss: enlarged, its pixels are seen."""
QUALITY = 84
PREVIEW = 384
"""Pixels of a preview's longer side at most."""


@dataclass(frozen=True)
class Embedded:
    """A picture as a page holds it."""

    address: str
    width: int
    height: int
    tiny: bool
    """Whether it should be enlarged unblurred."""


def save_previews(
    folder: Path | None, names: Sequence[str], images: Sequence[Image.Image]
) -> list[Path | None]:
    """Each preview as a small WebP under its name; None of each where there is no folder.

    Raises:
        OSError: the folder cannot be written.
    """
    if folder is None:
        return [None] * len(names)
    paths = [folder / f"{name}.webp" for name in names]
    for path, image in zip(paths, images, strict=True):
        small = image.copy()
        small.thumbnail((PREVIEW, PREVIEW), Image.Resampling.LANCZOS)
        with replacing(path) as partial:
            small.save(partial, "WEBP", quality=QUALITY, lossless=max(image.size) <= TINY)
    return list(paths)


def embed(path: Path, side: int) -> Embedded | None:
    """The picture, no larger than `side` pixels; None where the file is no picture, or is gone."""
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return embed_image(image, side)


def embed_image(image: Image.Image, side: int, lossy: bool = False) -> Embedded:
    """The same of a picture in memory; `lossy`: however small it is."""
    tiny = max(image.size) <= TINY and not lossy
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if tiny:
        image.save(buffer, format="PNG", optimize=True)
    else:
        image.save(buffer, format="WEBP", quality=QUALITY)
    kind = "png" if tiny else "webp"
    data = base64.b64encode(buffer.getvalue()).decode()
    return Embedded(f"data:image/{kind};base64,{data}", image.width, image.height, tiny)
