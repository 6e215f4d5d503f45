"""Picture files before a judge: what cannot be read is unscored, and the others are not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from promptprobe.tools.records import Score
from promptprobe.tools.scorers.scorer import Scorer


def judged_files(judge: Scorer, brief: str, paths: Sequence[Path]) -> list[Score]:
    """Scores in order; an image that cannot be read is unscored, the others are not."""
    scores: dict[int, Score] = {}
    images: dict[int, Image.Image] = {}
    for at, path in enumerate(paths):
        try:
            with Image.open(path) as opened:
                images[at] = opened.convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            scores[at] = Score(reason=f"the image {path} cannot be read: {error}")
    scores |= zip(images, judge(brief, list(images.values())), strict=True)
    return [scores[at] for at in range(len(paths))]
