"""Sprites: the built-in text-to-image models, their world and its judges.

No real image models: they know twelve nouns and seven colours (see weights/README.md). The rest of
promptprobe reaches them through plugin.py alone.
"""

from pathlib import Path

WEIGHTS = Path(__file__).with_name("weights")
PIPELINE = WEIGHTS / "pipeline"
"""Sprites, a folder that `DiffusionPipeline.from_pretrained` reads."""
PROBE = WEIGHTS / "probe"
CLIP = WEIGHTS / "clip"
"""A CLIP of this world, a folder that `CLIPModel.from_pretrained` reads."""
