"""Sprites: the built-in miniature text-to-image models, their world and its judges.

The models know only twelve nouns and seven colours (see weights/README.md). The rest of promptprobe
accesses them only through plugin.py.
"""

from pathlib import Path

WEIGHTS = Path(__file__).with_name("weights")
PIPELINE = WEIGHTS / "pipeline"
"""Sprites, as a folder for `DiffusionPipeline.from_pretrained`."""
PROBE = WEIGHTS / "probe"
CLIP = WEIGHTS / "clip"
"""A CLIP of this world, as a folder for `CLIPModel.from_pretrained`."""
