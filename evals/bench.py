"""What an eval runs on: a model, its two judges, and its probe where there is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promptprobe.tools.records import Score

Images = NDArray[np.uint8]
Judge = Callable[[str, Images], list[Score]]
"""A brief and images [n, height, width, 3] to one score an image."""


@dataclass(frozen=True)
class Bench:
    """Everything above is data; evals take it from here and open nothing themselves."""

    name: str
    family: Any
    """A `probe.family.Family`."""
    settings: Any
    """Its `Settings`."""
    score: Judge
    """The scorer, which selects."""
    judge: Judge
    """The second judge, which never selects."""
    probe: Any = None
    """A `probe.prediction.Probe`, checked against the model; None where none is shipped."""
    further: Mapping[str, Judge] = field(default_factory=dict)
    """Judges of the probe's other targets, by the target's name."""

    def nfe(self, start: int = 0, stop: int = 0, *, of: int = 0) -> int:
        """Denoiser evaluations from step to step of a full render, or one `of` other steps."""
        settings = replace(self.settings, steps=of or self.settings.steps)
        return int(self.family.nfe(settings, start, stop or settings.steps))

    @cached_property
    def facts(self) -> Any:
        """What a card is held against; takes a hash of the weights."""
        from promptprobe.probe.model.card import model_spec_of

        return model_spec_of(self.family, self.settings)

    def probe_at(self, k: int) -> tuple[Any, int]:
        """The probe, None unless there is one for k steps, and which of its windows they are."""
        from promptprobe.probe.model.card import ProbeError

        try:
            return self.probe, self.probe.card.window_for(k, self.facts) if self.probe else k
        except ProbeError:
            return None, k


def open_bench(model: str = "sprites", guidance: float | None = None) -> Bench:
    """A built-in model at its default settings, or at another guidance scale.

    ValueError: weights missing, a bad scale, or a probe that was trained for other settings.
    """
    from promptprobe.probe.families.family import Settings
    from promptprobe.probe.model.card import check
    from promptprobe.probe.model.checkpoint import load_probe
    from promptprobe.tools.models.built_in import built_in
    from promptprobe.tools.models.model import open_model
    from promptprobe.tools.records import Generation
    from promptprobe.tools.sprites.judges.scorer import score_images
    from promptprobe.tools.sprites.judges.segments import judge_images

    opened = open_model(model, Generation(guidance=guidance))
    own = built_in(model)
    assert own, "evals run on a built-in model"
    used, folder = opened.generation, own.probe
    assert used.guidance is not None  # open_model fills every setting in
    assert used.height
    assert used.width
    settings = Settings(
        used.steps, used.guidance, used.height, used.width, used.negative_prompt or ""
    )
    probe = load_probe(folder) if folder.is_dir() else None
    further = (
        {target.name: judge_of(target.name) for target in probe.card.targets[1:]} if probe else {}
    )
    bench = Bench(model, opened.family, settings, score_images, judge_images, probe, further)
    if probe:
        check(probe.card, bench.facts)
    return bench


def judge_of(target: str) -> Judge:
    """The scorer that a probe's target is named after.

    ValueError: there is none of that name, or it is one that a stranger's card may not name.
    """
    from PIL import Image

    from promptprobe.tools.scorers.function import names_code
    from promptprobe.tools.scorers.scorer import open_scorer

    name = target.removesuffix(" score")
    if names_code(name):
        raise ValueError(
            f"the probe's card names the judge {name!r:.200}, and no card decides which code "
            "runs or where pictures go"
        )
    scorer = open_scorer(name)
    return lambda brief, images: scorer(brief, [Image.fromarray(image) for image in images])
