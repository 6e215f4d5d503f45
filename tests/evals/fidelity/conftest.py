"""A tiny model on a bench, with judges that tell images apart and may break."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from promptprobe.evals.bench import Bench
from promptprobe.tools.models.built_in import built_in
from promptprobe.tools.records import Score


def brightness(fails: Callable[[int], bool], channel: int = 0) -> Any:
    """A judge of one channel that breaks at some of the images, counted from 0."""
    asked = 0

    def judge(brief: str, images: np.ndarray) -> list[Score]:
        nonlocal asked
        found = []
        for value in (images[..., channel].mean((1, 2)) / 255 * 997 % 1).tolist():
            broken = Score(reason="the judge ran out of memory", failed=True)
            found.append(broken if fails(asked) else Score(value=value))
            asked += 1
        return found

    return judge


@pytest.fixture
def bench(ddim_pipeline: Any) -> Bench:
    from promptprobe.probe.families.family import Settings
    from promptprobe.probe.families.unet.stable_diffusion import StableDiffusion

    every = brightness(lambda _: False)
    return Bench(
        "tiny",
        StableDiffusion(ddim_pipeline),
        Settings(4, 3.0, 32, 32),
        every,
        every,
        scorer="brightness",
        grader="brightness",
        own=built_in("sprites"),
    )
