"""Candidates stopped, saved and continued: exactly, or refused with the reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import PNDMScheduler
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from promptprobe.probe.families.family import Family, Settings, StateError
from promptprobe.probe.families.schedulers import FLOW
from tests import tiny
from tests.probe.pipelines import (
    FLOW_SCHEDULERS,
    PROMPTS,
    SCHEDULERS,
    SEEDS,
    SETTINGS,
    family_of,
    fit,
    full,
    official,
    with_scheduler,
)


def stop_and_go(pipeline: Any, folder: Path, k: int) -> None:
    """k steps saved, loaded by another family object and continued, against one unbroken render."""
    family, settings = family_of(pipeline), fit(pipeline, SETTINGS)
    conditioning = family.encode(PROMPTS, settings)
    prefix = family.denoise(family.draw_noise(SEEDS, settings), conditioning, settings, k)
    paths = [folder / "0.safetensors", folder / "1.safetensors"]
    family.save_state(prefix, settings, paths)
    loaded = family_of(pipeline).load_state(paths, settings)
    assert loaded.step == k
    finished = family.denoise(loaded, conditioning, settings, settings.steps)
    assert torch.equal(finished.latents, full(family, settings).latents)


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_saved_prefix_continues_as_if_never_stopped(
    pndm_pipeline: Any, tmp_path: Path, kind: Any, k: int, layout: torch.memory_format
) -> None:
    with_scheduler(pndm_pipeline, kind)
    pndm_pipeline.unet.to(memory_format=layout)
    stop_and_go(pndm_pipeline, tmp_path, k)


@pytest.mark.parametrize("k", [1, 3])
def test_every_family_continues_as_if_never_stopped(
    tiny_pipeline: Any, tmp_path: Path, k: int
) -> None:
    stop_and_go(tiny_pipeline, tmp_path, k)


@pytest.mark.parametrize("kind", FLOW_SCHEDULERS)
def test_flow_solvers_continue_as_if_never_stopped(
    fresh_pipeline: Any, tmp_path: Path, kind: Any
) -> None:
    options = {"prediction_type": FLOW, "use_flow_sigmas": True, "flow_shift": 2.0}
    stop_and_go(with_scheduler(fresh_pipeline("sd3"), kind, **options), tmp_path, 3)


def test_a_stochastic_flow_scheduler_draws_from_each_candidates_generator(
    fresh_pipeline: Any, tmp_path: Path
) -> None:
    pipeline = fresh_pipeline("flux")
    with_scheduler(pipeline, type(pipeline.scheduler), stochastic_sampling=True)
    stop_and_go(pipeline, tmp_path, 3)


def test_survivors_of_different_batches_continue_together(
    tiny_pipeline: Any, tmp_path: Path
) -> None:
    family, settings = family_of(tiny_pipeline), fit(tiny_pipeline, SETTINGS)
    paths = []
    for prompt, seed in zip(PROMPTS, SEEDS, strict=True):
        conditioning = family.encode([prompt] * 3, settings)
        noise = family.draw_noise([seed + 1, seed, seed + 2], settings)
        prefix = family.denoise(noise, conditioning, settings, 2)
        own = [tmp_path / f"{seed}-{place}" for place in range(3)]
        family.save_state(prefix, settings, own)
        paths.append(own[1])
    together = family.load_state(paths, settings)
    finished = family.denoise(together, family.encode(PROMPTS, settings), settings, 6)
    difference = (finished.latents - full(family, settings).latents).abs().max()
    assert difference < 1e-4


def test_runge_kutta_steps_of_pndm_are_counted_and_carried(
    pndm_pipeline: Any, tmp_path: Path
) -> None:
    with_scheduler(pndm_pipeline, PNDMScheduler, skip_prk_steps=False)
    family = family_of(pndm_pipeline)
    assert family.nfe(SETTINGS, 0, 6) == 2 * len(
        family.draw_noise(SEEDS, SETTINGS).scheduler.timesteps
    )
    conditioning = family.encode(PROMPTS, SETTINGS)
    prefix = family.denoise(family.draw_noise(SEEDS, SETTINGS), conditioning, SETTINGS, 2)
    family.save_state(prefix, SETTINGS, [tmp_path / "0", tmp_path / "1"])
    loaded = family.load_state([tmp_path / "0", tmp_path / "1"], SETTINGS)
    finished = family.denoise(loaded, conditioning, SETTINGS, 6)
    assert torch.equal(finished.latents, official(pndm_pipeline, SETTINGS, "latent"))


@pytest.fixture
def saved(pndm_pipeline: Any, tmp_path: Path) -> tuple[Family, Path]:
    family = family_of(pndm_pipeline)
    conditioning = family.encode(["a cat"], SETTINGS)
    prefix = family.denoise(family.draw_noise([1], SETTINGS), conditioning, SETTINGS, 2)
    family.save_state(prefix, SETTINGS, [tmp_path / "state"])
    return family, tmp_path / "state"


def rewrite(path: Path, tensors: dict[str, Any] | None = None, **header: Any) -> None:
    with safe_open(path, framework="pt") as file:
        values = json.loads(file.metadata()["promptprobe"]) | header
    kept = {
        name: value
        for name, value in (load_file(path) | (tensors or {})).items()
        if value is not None
    }
    save_file(kept, path, metadata={"promptprobe": json.dumps(values)})


def test_an_intact_state_loads_after_a_rewrite(saved: tuple[Family, Path]) -> None:
    family, path = saved
    rewrite(path)
    assert family.load_state([path], SETTINGS).step == 2


@pytest.mark.parametrize(
    ("tensors", "header", "message"),
    [
        ({"latents": torch.zeros(4, 8, 8)}, {}, "expected latents of shape"),
        ({"latents": None}, {}, "got none"),
        ({"generator": torch.zeros(5)}, {}, "state of a CPU generator"),
        ({"ets.0": torch.zeros(4, 8, 8)}, {}, "not shaped like"),
        ({"ets.1": None}, {}, "missing"),
        ({}, {"step": 99}, "expected a step from 0 to 6, got 99"),
        ({}, {"step": True}, "expected a step"),
        ({}, {"scheduler": "DDIMScheduler"}, "DDIMScheduler, but this run has PNDMScheduler"),
        ({}, {"format": "other"}, "but this run has promptprobe state"),
        ({}, {"buffers": {}}, "lacks the scheduler's ets"),
        ({}, {"buffers": []}, "expected the scheduler's buffers"),
    ],
)
def test_a_broken_state_is_refused_with_the_reason(
    saved: tuple[Family, Path], tensors: Any, header: Any, message: str
) -> None:
    family, path = saved
    rewrite(path, tensors, **header)
    with pytest.raises(StateError, match=message):
        family.load_state([path], SETTINGS)


@pytest.mark.parametrize("content", [b"", b"not a state", b"\xff" * 3_000_000])
def test_a_file_that_is_no_state_is_refused(saved: tuple[Family, Path], content: bytes) -> None:
    family, path = saved
    path.write_bytes(content)
    with pytest.raises(StateError, match="saved state"):
        family.load_state([path], SETTINGS)


def test_a_truncated_or_missing_state_is_refused(saved: tuple[Family, Path]) -> None:
    family, path = saved
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StateError, match="cannot read"):
        family.load_state([path], SETTINGS)
    path.unlink()
    with pytest.raises(StateError, match="cannot read"):
        family.load_state([path], SETTINGS)


def test_a_state_of_other_settings_is_refused_naming_both(
    saved: tuple[Family, Path],
) -> None:
    family, path = saved
    with pytest.raises(StateError, match=r"'guidance': 3.0.*'guidance': 5.0"):
        family.load_state([path], Settings(6, 5.0, 32, 32, "a dog"))


def test_a_new_process_continues_to_the_same_image(
    fresh_pipeline: Any, saved_pipeline: Any, tmp_path: Path
) -> None:
    expected = {}
    for name in tiny.PIPELINES:
        pipeline = fresh_pipeline(name)
        family, settings = family_of(pipeline), fit(pipeline, SETTINGS)
        conditioning = family.encode(PROMPTS, settings)
        prefix = family.denoise(family.draw_noise(SEEDS, settings), conditioning, settings, 2)
        family.save_state(prefix, settings, [tmp_path / f"{name}-0", tmp_path / f"{name}-1"])
        expected[name] = full(family, settings).latents.cpu()
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from diffusers import DiffusionPipeline\n"
        "from safetensors.torch import save_file\n"
        "from promptprobe.probe.families import family_of\n"
        "from tests.probe.pipelines import PROMPTS, SETTINGS, fit\n"
        "out, device, *folders = sys.argv[1:]\n"
        "done = {}\n"
        "for folder in folders:\n"
        "    pipeline = DiffusionPipeline.from_pretrained(folder).to(device)\n"
        "    family, settings = family_of(pipeline), fit(pipeline, SETTINGS)\n"
        "    name = Path(folder).name.removeprefix('tiny-')\n"
        "    state = family.load_state([Path(f'{out}/{name}-{i}') for i in (0, 1)], settings)\n"
        "    told = family.encode(PROMPTS, settings)\n"
        "    done[name] = family.denoise(state, told, settings, settings.steps).latents\n"
        "save_file(done, f'{out}/done')\n"
    )
    folders = [str(saved_pipeline(name)) for name in tiny.PIPELINES]
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), str(pipeline.device), *folders], check=True
    )
    found = load_file(tmp_path / "done")
    assert {name for name in expected if not torch.equal(found[name], expected[name])} == set()


def test_states_that_changed_places_are_told_apart(ddim_pipeline: Any, tmp_path: Path) -> None:
    family = family_of(ddim_pipeline)
    own, other = tmp_path / "own", tmp_path / "other"
    family.save_state(family.draw_noise([1, 2], SETTINGS), SETTINGS, [own, other])
    other.replace(own)
    with pytest.raises(StateError, match="saved with name other, but this run has own"):
        family.load_state([own], SETTINGS)


def test_a_state_that_is_no_regular_file_is_not_waited_for(
    ddim_pipeline: Any, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "state")
    with pytest.raises(StateError, match="not a regular file"):
        family_of(ddim_pipeline).load_state([tmp_path / "state"], SETTINGS)
