"""Candidates stopped, saved and continued: exactly, or refused with the reason."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import PNDMScheduler
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from promptprobe.probe.family import Settings, StateError
from promptprobe.probe.stable_diffusion import StableDiffusion
from tests.probe.pipelines import (
    PROMPTS,
    SCHEDULERS,
    SEEDS,
    SETTINGS,
    family_of,
    full,
    official,
    with_scheduler,
)


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_saved_prefix_continues_as_if_never_stopped(
    pndm_pipeline: Any, tmp_path: Path, kind: Any, k: int, layout: torch.memory_format
) -> None:
    with_scheduler(pndm_pipeline, kind)
    pndm_pipeline.unet.to(memory_format=layout)
    family = StableDiffusion(pndm_pipeline)
    conditioning = family.encode(PROMPTS, SETTINGS)
    prefix = family.denoise(family.draw_noise(SEEDS, SETTINGS), conditioning, SETTINGS, k)
    paths = [tmp_path / "0.safetensors", tmp_path / "1.safetensors"]
    family.save_state(prefix, SETTINGS, paths)
    loaded = StableDiffusion(pndm_pipeline).load_state(paths, SETTINGS)
    assert loaded.step == k
    finished = family.denoise(loaded, conditioning, SETTINGS, SETTINGS.steps)
    assert torch.equal(finished.latents, full(family, SETTINGS).latents)


def test_survivors_of_different_batches_continue_together(
    tiny_pipeline: Any, tmp_path: Path
) -> None:
    family = family_of(tiny_pipeline)
    paths = []
    for prompt, seed in zip(PROMPTS, SEEDS, strict=True):
        conditioning = family.encode([prompt] * 3, SETTINGS)
        noise = family.draw_noise([seed + 1, seed, seed + 2], SETTINGS)
        prefix = family.denoise(noise, conditioning, SETTINGS, 2)
        own = [tmp_path / f"{seed}-{place}" for place in range(3)]
        family.save_state(prefix, SETTINGS, own)
        paths.append(own[1])
    together = family.load_state(paths, SETTINGS)
    finished = family.denoise(together, family.encode(PROMPTS, SETTINGS), SETTINGS, 6)
    difference = (finished.latents - full(family, SETTINGS).latents).abs().max()
    assert difference < 1e-4


def test_runge_kutta_steps_of_pndm_are_counted_and_carried(
    pndm_pipeline: Any, tmp_path: Path
) -> None:
    with_scheduler(pndm_pipeline, PNDMScheduler, skip_prk_steps=False)
    family = StableDiffusion(pndm_pipeline)
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
def saved(pndm_pipeline: Any, tmp_path: Path) -> tuple[StableDiffusion, Path]:
    family = StableDiffusion(pndm_pipeline)
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


def test_an_intact_state_loads_after_a_rewrite(saved: tuple[StableDiffusion, Path]) -> None:
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
    saved: tuple[StableDiffusion, Path], tensors: Any, header: Any, message: str
) -> None:
    family, path = saved
    rewrite(path, tensors, **header)
    with pytest.raises(StateError, match=message):
        family.load_state([path], SETTINGS)


@pytest.mark.parametrize("content", [b"", b"not a state", b"\xff" * 3_000_000])
def test_a_file_that_is_no_state_is_refused(
    saved: tuple[StableDiffusion, Path], content: bytes
) -> None:
    family, path = saved
    path.write_bytes(content)
    with pytest.raises(StateError, match="saved state"):
        family.load_state([path], SETTINGS)


def test_a_truncated_or_missing_state_is_refused(saved: tuple[StableDiffusion, Path]) -> None:
    family, path = saved
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StateError, match="cannot read"):
        family.load_state([path], SETTINGS)
    path.unlink()
    with pytest.raises(StateError, match="cannot read"):
        family.load_state([path], SETTINGS)


def test_a_state_of_other_settings_is_refused_naming_both(
    saved: tuple[StableDiffusion, Path],
) -> None:
    family, path = saved
    with pytest.raises(StateError, match=r"'guidance': 3.0.*'guidance': 5.0"):
        family.load_state([path], Settings(6, 5.0, 32, 32, "a dog"))


def test_a_new_process_continues_to_the_same_image(
    pndm_pipeline: Any, pndm_folder: Path, tmp_path: Path
) -> None:
    family = StableDiffusion(pndm_pipeline)
    conditioning = family.encode(PROMPTS, SETTINGS)
    prefix = family.denoise(family.draw_noise(SEEDS, SETTINGS), conditioning, SETTINGS, 2)
    paths = [tmp_path / "0", tmp_path / "1"]
    family.save_state(prefix, SETTINGS, paths)
    program = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from diffusers import StableDiffusionPipeline\n"
        "from safetensors.torch import save_file\n"
        "from promptprobe.probe.family import Settings\n"
        "from promptprobe.probe.stable_diffusion import StableDiffusion\n"
        f"settings = {SETTINGS!r}\n"
        "folder, first, second, out = map(Path, sys.argv[1:])\n"
        "family = StableDiffusion(StableDiffusionPipeline.from_pretrained(folder))\n"
        "state = family.load_state([first, second], settings)\n"
        f"prompts = {PROMPTS!r}\n"
        "done = family.denoise(state, family.encode(prompts, settings), settings, settings.steps)\n"
        "save_file({'latents': done.latents}, out)\n"
    )
    out = tmp_path / "done"
    subprocess.run(
        [sys.executable, "-c", program, str(pndm_folder), *map(str, paths), str(out)], check=True
    )
    assert torch.equal(load_file(out)["latents"], full(family, SETTINGS).latents)
