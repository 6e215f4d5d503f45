"""Pictures embedded in a page as small `data:` URLs, so that the page is self-contained.

It also saves the x0 previews of a run, which such pages show.
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
"""Size in pixels up to which a picture is stored without loss, because it is shown enlarged."""
QUALITY = 84
PREVIEW = 384
"""Maximum length of a preview's longer side, in pixels."""


@dataclass(frozen=True)
class Embedded:
    """A picture as a page holds it."""

    address: str
    width: int
    height: int
    tiny: bool
    """Whether it should be enlarged without smoothing."""


def save_previews(
    folder: Path | None, names: Sequence[str], images: Sequence[Image.Image]
) -> list[Path | None]:
    """Save each preview as a small WebP under its name; without a folder, return None for each.

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
    """The picture, no larger than `side` pixels; None if the file is missing or not a picture."""
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return embed_image(image, side)


def embed_image(image: Image.Image, side: int, lossy: bool = False) -> Embedded:
    """`embed` for a picture in memory; `lossy` compresses it even if it is tiny."""
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
