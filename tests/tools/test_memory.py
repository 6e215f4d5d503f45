"""A picture that cannot fit into memory is refused before anything is drawn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from promptprobe.probe.families import family_of
from promptprobe.probe.families.family import Settings
from promptprobe.tools.device import least_to_decode
from promptprobe.tools.models.model import open_model
from promptprobe.tools.records import Generation


def test_what_is_counted_is_really_read_in_every_family(tiny_pipeline: Any) -> None:
    read: list[int] = []

    def note(module: Any, given: Any) -> None:
        read.append(given[0].nbytes)

    vae = tiny_pipeline.vae
    for module in vae.decoder.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d):
            module.register_forward_pre_hook(note)
    family = family_of(tiny_pipeline)
    noise = family.draw_noise([1], Settings(steps=2, guidance=0.0, height=32, width=32))
    read.clear()
    family.decode(noise.latents)
    assert 0 < least_to_decode(vae, 32, 32) <= 2 * read[-1]


def test_a_picture_larger_than_memory_is_refused_with_both_figures(
    ddim_pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = least_to_decode(ddim_pipeline.vae, 256, 128)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=needed))
    assert open_model(ddim_pipeline, Generation(width=256, height=128)).generation.width == 256
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=needed - 1))
    with pytest.raises(
        ValueError, match=r"256 x 128 pixels takes at least .* there are only .* GB: give"
    ):
        open_model(ddim_pipeline, Generation(width=256, height=128))
    ddim_pipeline.vae.use_tiling = True
    open_model(ddim_pipeline, Generation(width=256, height=128))
