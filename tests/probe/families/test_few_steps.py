"""Models of few steps: no guidance, trailing timesteps, and a look after the first of four."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
    LCMScheduler,
    TCDScheduler,
)

from promptprobe import Budget, optimize_prompt
from promptprobe.probe.families.family import Settings
from promptprobe.probe.trace import record_trace
from promptprobe.tools.models.model import open_toolbox
from promptprobe.tools.records import Candidate, Generation
from tests.images import brightness, pixels
from tests.probe.pipelines import PROMPTS, SEEDS, family_of, full, official, with_scheduler

FOUR = Settings(steps=4, guidance=0.0, height=32, width=32)
Fresh = Callable[[str], Any]


def schnell(fresh: Fresh) -> Any:
    """FLUX.1-schnell: no guidance as an input, and a path that does not shift with the size."""
    pipeline = fresh("flux")
    torch.manual_seed(0)
    config = {k: v for k, v in pipeline.transformer.config.items() if not k.startswith("_")}
    pipeline.transformer = FluxTransformer2DModel(**config | {"guidance_embeds": False}).eval()
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    return pipeline.to(pipeline.device)


def turbo(fresh: Fresh) -> Any:
    """SDXL-Turbo."""
    return with_scheduler(fresh("xl"), EulerAncestralDiscreteScheduler, timestep_spacing="trailing")


def lightning(fresh: Fresh) -> Any:
    """SDXL-Lightning."""
    return with_scheduler(fresh("xl"), EulerDiscreteScheduler, timestep_spacing="trailing")


def lcm(fresh: Fresh) -> Any:
    return with_scheduler(fresh("pndm"), LCMScheduler)


def tcd(fresh: Fresh) -> Any:
    return with_scheduler(fresh("pndm"), TCDScheduler)


MODELS = [schnell, turbo, lightning, lcm, tcd]


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
@pytest.mark.parametrize("model", MODELS)
def test_a_render_equals_the_official_call(
    fresh_pipeline: Fresh, model: Callable[[Fresh], Any], steps: int
) -> None:
    pipeline, asked = model(fresh_pipeline), replace(FOUR, steps=steps)
    family = family_of(pipeline)
    assert torch.equal(full(family, asked).latents, official(pipeline, asked, "latent"))
    assert family.nfe(asked, 0, steps) == steps


@pytest.mark.parametrize("model", MODELS)
def test_the_first_of_four_steps_is_read_without_guidance(
    fresh_pipeline: Fresh, model: Callable[[Fresh], Any]
) -> None:
    trace, state = record_trace(family_of(model(fresh_pipeline)), PROMPTS, SEEDS, FOUR, 1)
    assert state.step == 1
    assert bool((trace.maps[trace.mask] > 0).all()) and bool(trace.x0.isfinite().all())
    assert float(trace.x0.std()) > 0 and not trace.gap.any()


@pytest.mark.parametrize("model", MODELS)
def test_what_was_looked_at_after_one_of_four_steps_ends_as_the_same_picture(
    fresh_pipeline: Fresh, model: Callable[[Fresh], Any], tmp_path: Path
) -> None:
    asked = Generation(steps=4, guidance=0, height=32, width=32)
    toolbox = open_toolbox(model(fresh_pipeline), asked, brightness)
    candidates = [Candidate(prompt=prompt, seed=3) for prompt in PROMPTS]
    assert (toolbox.probe_steps, toolbox.nfe_per_render) == (1, 4)
    looked = toolbox.probe(PROMPTS[0], candidates, tmp_path / "latents")
    assert all(one.nfe == 1 and one.prediction is not None for one in looked)
    whole = toolbox.render(candidates, [None, None], tmp_path / "whole")
    rest = toolbox.render(candidates, [one.latents for one in looked], tmp_path / "rest")
    for ours, theirs in zip(rest, whole, strict=True):
        assert ours.nfe == 3 and np.array_equal(pixels(ours.image), pixels(theirs.image))


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_run_searches_seeds_of_a_model_of_few_steps(
    fresh_pipeline: Fresh, tmp_path: Path, steps: int
) -> None:
    result = optimize_prompt(
        "a red cat", model=lightning(fresh_pipeline), scorer=brightness, rewrite="off",
        generation=Generation(steps=steps, guidance=0), budget=Budget(renders=4), out=tmp_path,
    )  # fmt: skip
    assert result.best.score is not None and result.best.image is not None
    assert 1 < result.spent.nfe / steps <= 4
    if steps == 1:
        assert all(trial.image and not trial.looks for trial in result.trials)
