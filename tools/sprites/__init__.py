"""Sprites: the built-in text-to-image models, their world and its judges.

No real image models: they know twelve nouns and seven colours (see weights/README.md).
"""

from pathlib import Path
from typing import NamedTuple

WEIGHTS = Path(__file__).with_name("weights")
CLIP = WEIGHTS / "clip"
"""A CLIP of this world, a folder that `CLIPModel.from_pretrained` reads."""


class BuiltIn(NamedTuple):
    """A model that comes with this package."""

    pipeline: Path
    """A folder that `DiffusionPipeline.from_pretrained` reads."""
    probe: Path
    """Its probe's weights and card."""
    guidance: float
    """Chosen on validation scenes, as its class counts it."""


MODELS = {
    "sprites": BuiltIn(WEIGHTS / "pipeline", WEIGHTS / "probe", 2.0),
    "sprites-flow": BuiltIn(WEIGHTS / "flow", WEIGHTS / "flow-probe", 1.0),
}
PIPELINE, PROBE, _ = MODELS["sprites"]
