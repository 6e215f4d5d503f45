"""Tiny random pipelines of every family, made from config: no download, milliseconds a step.

All draw 32 x 32 pixels from 16 x 16 latents. Their tokenizers cut words as the real ones do, and
templates are the real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.tiny.flow import flux, klein, qwen, sana, sd3, z_image
from tests.tiny.lora import lora
from tests.tiny.noise import ddim, pixart, pndm, xl

__all__ = ["PIPELINES", "lora"]

PIPELINES: dict[str, Callable[[], Any]] = {
    made.__name__: made for made in (ddim, pndm, xl, sd3, flux, klein, qwen, z_image, pixart, sana)
}
