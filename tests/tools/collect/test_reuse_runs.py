"""Which past runs fit a training: the same model, in name and in deed, and the same settings."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from promptprobe.tools.collect.collector import Collector
from promptprobe.tools.collect.prompts import Job, Wanted
from promptprobe.tools.collect.reuse_runs import PastRun, drawn_alike, fitting
from promptprobe.tools.models.model import Model, open_model, open_toolbox
from promptprobe.tools.records import Candidate, Generation
from promptprobe.tools.scorers.scorer import open_scorer
from promptprobe.tools.toolbox import settings_of
from tests.images import brightness

GENERATION = Generation(steps=4)


@pytest.fixture(scope="module")
def model(ddim_folder: Path) -> Model:
    return open_model(ddim_folder, GENERATION)


@pytest.fixture(scope="module")
def run(ddim_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> PastRun:
    folder = tmp_path_factory.mktemp("run")
    toolbox = open_toolbox(ddim_folder, GENERATION, brightness)
    candidates = [Candidate(prompt="a red cat", seed=seed) for seed in (1, 2)]
    rendered = toolbox.render(candidates, [None, None], folder)
    jobs = tuple(
        Job(Wanted(prompt=one.prompt), one.seed, done.image)
        for one, done in zip(candidates, rendered, strict=True)
    )
    return PastRun(folder, toolbox.model_name, toolbox.settings_used, jobs)


def collector(model: Model) -> Collector:
    settings = settings_of(model.generation)
    return Collector(model.name, model.family, settings, (1, 2), (open_scorer(brightness),))


def test_a_run_of_this_model_fits_on_whatever_device_it_was_made(
    run: PastRun, model: Model
) -> None:
    said: list[str] = []
    elsewhere = replace(run, generation=run.generation.model_copy(update={"device": "cuda"}))
    assert fitting([run, elsewhere], model, said.append) == [run, elsewhere]
    assert drawn_alike(run, collector(model), said.append)
    assert said == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"steps": 5}, "steps 5, but the training has 4"),
        ({"guidance": 3.0}, "guidance 3.0, but the training has 7.5"),
        ({"height": 64}, "height 64, but the training has 32"),
        ({"negative_prompt": "fog"}, "negative_prompt 'fog', but the training has ''"),
        ({"dtype": "float16"}, "dtype 'float16', but the training has 'float32'"),
    ],
)
def test_a_run_of_other_settings_is_left_out_with_its_folder_and_the_values(
    run: PastRun, model: Model, change: dict[str, Any], problem: str
) -> None:
    said: list[str] = []
    other = replace(run, generation=run.generation.model_copy(update=change))
    assert fitting([other, run], model, said.append) == [run]
    assert said == [f"left out: {run.folder}: it was made with {problem}"]


def test_a_run_of_another_model_is_left_out(run: PastRun, model: Model) -> None:
    said: list[str] = []
    assert fitting([replace(run, model="sprites")], model, said.append) == []
    assert "made with model 'sprites', but the training has" in said[0]


def test_weights_that_changed_under_their_name_show_in_a_picture(
    run: PastRun, ddim_folder: Path, tmp_path: Path
) -> None:
    import torch

    folder = shutil.copytree(ddim_folder, tmp_path / "copy")
    model = open_model(folder, GENERATION)
    assert drawn_alike(run, collector(model), print)
    unet: Any = model.family.pipeline.unet  # type: ignore[attr-defined]
    torch.manual_seed(1)
    with torch.no_grad():
        for weights in unet.parameters():
            weights += 0.3 * weights.std(correction=0) * torch.randn_like(weights)
    said: list[str] = []
    assert not drawn_alike(run, collector(model), said.append)
    assert f"left out: {run.folder}" in said[0]
    assert "of 255 levels from what the model draws now" in said[0]


def test_a_picture_that_cannot_be_used_is_left_out_and_the_others_are_not(
    run: PastRun, model: Model, tmp_path: Path
) -> None:
    small = tmp_path / "small.png"
    Image.new("RGB", (2, 2)).save(small)
    first, second = run.jobs
    said: list[str] = []
    [left] = fitting(
        [replace(run, jobs=(first._replace(picture=small), second))], model, said.append
    )
    assert left.jobs == (second,)
    assert said[0].startswith("left out: seed 1 of 'a red cat': the picture ")
    assert "small.png cannot be used: expected RGB of 32x32 pixels, got RGB of 2x2" in said[0]

    assert fitting([replace(run, jobs=())], model, said.append) == []
    assert said[1:] == [f"left out: {run.folder}: it holds no finished picture"]
