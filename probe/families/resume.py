"""Candidates saved to disk between two steps: one safetensors file each, no pickle.

A file holds the candidate's latents, its generator's state and its share of the scheduler's
buffers; the header records the scheduler, settings, step and file name. Any candidates stopped at
the same step with the same settings can continue as one batch. Files are not trusted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from promptprobe.probe.families.family import Settings, State, StateError
from promptprobe.probe.families.schedulers import pack, public_config, unpack
from promptprobe.probe.files import replacing, save_tensors, size_of

FORMAT = "promptprobe state 1"
MOST_BUFFERS = 16
"""Maximum number of latent-sized tensors in a file."""


def save(state: State, settings: Settings, paths: Sequence[Path]) -> None:
    """Write one file for each candidate, atomically."""
    if len(paths) != len(state.latents):
        raise ValueError(f"{len(state.latents)} candidates, but {len(paths)} paths")
    for index, path in enumerate(paths):
        buffers, tensors = pack(state.scheduler, index)
        tensors["latents"] = state.latents[index].detach().cpu().clone()
        tensors["generator"] = state.generators[index].get_state()
        header = {
            "format": FORMAT,
            "scheduler": type(state.scheduler).__name__,
            "config": public_config(state.scheduler),
            "settings": asdict(settings),
            "step": state.step,
            "name": path.name,
            "buffers": buffers,
        }
        rows = {name: tensor.contiguous() for name, tensor in tensors.items()}
        with replacing(path) as partial:
            save_tensors(rows, partial, {"promptprobe": json.dumps(header)})


def load(
    paths: Sequence[Path],
    settings: Settings,
    scheduler: Any,
    shape: tuple[int, int, int],
    device: torch.device,
) -> State:
    """Load saved candidates as one batch; `scheduler` is a fresh copy with its timesteps set.

    Raises StateError, naming the file and the two values that differ, if one cannot be continued.
    """
    if not paths:
        raise ValueError("no saved states given: expected at least one")
    headers, tensors = [], []
    for path in paths:
        header, own = _read(path, shape)
        _check(path, header, settings, scheduler)
        headers.append(header)
        tensors.append(own)
    steps = sorted({header["step"] for header in headers})
    if len(steps) != 1:
        raise StateError(f"the saved states are at different steps: {steps}")
    generators = tuple(_generator(path, own) for path, own in zip(paths, tensors, strict=True))
    placed = [{name: tensor.to(device) for name, tensor in own.items()} for own in tensors]
    unpack(scheduler, [header["buffers"] for header in headers], placed)
    latents = torch.stack([own["latents"] for own in placed])
    return State(latents, steps[0], scheduler, generators)


def _read(path: Path, shape: tuple[int, int, int]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        size = size_of(path)
        bound = 2**20 + 8 * MOST_BUFFERS * math.prod(shape)
        if size > bound:
            raise StateError(f"{path} has {size} bytes: expected a saved state, at most {bound}")
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("promptprobe", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        if isinstance(error, StateError):
            raise
        raise StateError(f"cannot read the saved state {path}: {error}") from error
    latents = tensors.get("latents")
    if latents is None or latents.shape != shape or not latents.is_floating_point():
        found = "none" if latents is None else f"{latents.dtype} {tuple(latents.shape)}"
        raise StateError(f"{path}: expected latents of shape {shape}, got {found}")
    if not isinstance(header, dict):
        raise StateError(f"{path}: expected a header of format {FORMAT!r}, got none")
    return header, tensors


def _check(path: Path, header: dict[str, Any], settings: Settings, scheduler: Any) -> None:
    expected = {
        "format": FORMAT,
        "scheduler": type(scheduler).__name__,
        "config": public_config(scheduler),
        "settings": asdict(settings),
        "name": path.name,
    }
    for name, value in expected.items():
        if header.get(name) != value:
            raise StateError(f"{path}: saved with {name} {_difference(header.get(name), value)}")
    step = header.get("step")
    if type(step) is not int or not 0 <= step <= settings.steps:
        raise StateError(f"{path}: expected a step from 0 to {settings.steps}, got {step!r}")
    if not isinstance(header.get("buffers"), dict):
        raise StateError(f"{path}: expected the scheduler's buffers in the header")


def _difference(found: Any, expected: Any) -> str:
    """Both values, cut to a readable length; of dictionaries, only the entries that differ."""
    if isinstance(found, dict) and isinstance(expected, dict):
        keys = [key for key in expected if found.get(key) != expected[key]]
        found = {key: found.get(key) for key in keys}
        expected = {key: expected[key] for key in keys}
    return f"{str(found)[:200]}, but this run has {str(expected)[:200]}"


def _generator(path: Path, tensors: dict[str, Tensor]) -> torch.Generator:
    generator = torch.Generator()
    state = tensors.get("generator")
    if state is None or state.dtype != torch.uint8 or state.shape != generator.get_state().shape:
        raise StateError(f"{path}: expected the state of a CPU generator")
    return generator.set_state(state)
