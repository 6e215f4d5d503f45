"""Models are opened once a process, one at a time, and let go when there is no room."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch

from promptprobe.tools.models.loading import Shared
from promptprobe.tools.models.model import open_model, open_toolbox
from promptprobe.tools.records import Generation
from tests.images import brightness

NAMES = ("ddim", "pndm", "xl", "sd3")


class Opened:
    """Something that can be opened."""

    def __init__(self, size: int = 0) -> None:
        self.size = size


def shared(most: int) -> Shared[Opened]:
    return Shared(lambda one: one.size, most)


def test_what_is_asked_for_twice_is_opened_once() -> None:
    held, opened = shared(100), list[int]()

    def open_it() -> Opened:
        opened.append(1)
        return Opened()

    assert held.get("a", open_it) is held.get("a", open_it)
    assert len(opened) == 1


def test_what_nobody_holds_makes_way_when_there_is_no_room() -> None:
    held = shared(10)
    first = weakref.ref(held.get("a", lambda: Opened(11)))
    gc.collect()
    assert first() is not None
    held.get("b", lambda: Opened(5))
    assert first() is None
    held.get("c", lambda: Opened(5))
    assert held.get("b", Opened).size == 5


def test_what_somebody_holds_stays_shared_however_large_it_is() -> None:
    held = shared(10)
    mine = held.get("a", lambda: Opened(100))
    held.get("b", lambda: Opened(100))
    assert held.get("a", Opened) is mine


def test_what_fails_to_open_is_tried_again() -> None:
    held = shared(10)
    with pytest.raises(ValueError, match="broken"):
        held.get("a", lambda: (_ for _ in ()).throw(ValueError("broken")))
    assert isinstance(held.get("a", Opened), Opened)


def test_calls_share_a_model_but_not_their_settings(ddim_folder: Path) -> None:
    one = open_model(ddim_folder, Generation(steps=5))
    other = open_model(str(ddim_folder), Generation(steps=9))
    assert one.family is other.family
    assert (one.generation.steps, other.generation.steps) == (5, 9)
    assert open_model(ddim_folder, Generation(dtype="float16")).family is not one.family


def test_calls_share_a_scorer(ddim_folder: Path, clip_folder: Path) -> None:
    name = f"clip:{clip_folder}"
    one = open_toolbox(ddim_folder, scorer=name)
    assert open_toolbox(ddim_folder, scorer=name)._scorer is one._scorer


def test_a_folder_that_has_changed_is_opened_anew(ddim_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ddim_folder, tmp_path / "model"))
    before = open_model(folder)
    os.utime(folder / "unet" / "config.json")
    assert open_model(folder).family is not before.family


def test_models_opened_at_once_are_as_if_opened_one_by_one(
    saved_pipeline: Any, tmp_path: Path
) -> None:
    """Libraries patch globals while they load: three threads a model, each of its own folder."""
    folders = [
        Path(shutil.copytree(saved_pipeline(name), tmp_path / f"{name}-{copy}"))
        for name in NAMES
        for copy in range(3)
    ]
    dtypes = ("float32", "bfloat16")
    together = Barrier(len(folders))

    def opened(number: int) -> Any:
        together.wait()
        generation = Generation(dtype=dtypes[number % 2])
        toolbox = open_toolbox(folders[number], generation, brightness)
        return toolbox._family.pipeline  # type: ignore[attr-defined]

    before, default = sys.getswitchinterval(), torch.get_default_dtype()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(len(folders)) as pool:
            found = list(pool.map(opened, range(len(folders))))
    finally:
        sys.setswitchinterval(before)
    assert torch.get_default_dtype() == default
    for number, pipeline in enumerate(found):
        parts = [part for part in pipeline.components.values() if hasattr(part, "parameters")]
        for tensor in (tensor for part in parts for tensor in part.parameters()):
            assert not tensor.is_meta
            assert tensor.dtype == getattr(torch, dtypes[number % 2])
