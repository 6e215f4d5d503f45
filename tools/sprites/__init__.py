"""Sprites: the built-in text-to-image model, its world and its judges.

Not a real image model: it knows twelve nouns and seven colours (see weights/README.md).
"""

from pathlib import Path

WEIGHTS = Path(__file__).with_name("weights")
PIPELINE = WEIGHTS / "pipeline"
"""A folder that `StableDiffusionPipeline.from_pretrained` reads."""
PROBE = WEIGHTS / "probe"
"""The probe's weights and card."""
CLIP = WEIGHTS / "clip"
"""A CLIP of this world, a folder that `CLIPModel.from_pretrained` reads."""
