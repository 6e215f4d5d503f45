"""Several runs in one process share a pipeline, and each gets what it would have got alone."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from promptprobe.probe.families.family import Settings
from promptprobe.probe.families.self_check import inputs_of
from promptprobe.probe.trace import record_trace
from tests.probe.pipelines import family_of


@pytest.mark.parametrize("name", ["pndm", "flux", "qwen", "z_image"])
def test_runs_in_threads_of_their_own_equal_runs_alone(fresh_pipeline: Any, name: str) -> None:
    pipeline = fresh_pipeline(name)
    jobs = [
        (["a red cat"], [1], Settings(4, 3.0, 32, 32)),
        (["a photo of a green dog", "a blue car"], [2, 3], Settings(6, 0.0, 48, 32)),
        (["a red car left of a dog"], [4], Settings(5, 2.0, 32, 48)),
    ]

    def run(job: Any, together: threading.Barrier | None = None) -> tuple[torch.Tensor, ...]:
        prompts, seeds, settings = job
        if together:
            together.wait()  # before anything can fail, or the others wait for ever
        family = family_of(pipeline)
        trace, state = record_trace(family, prompts, seeds, settings, 2)
        cond = family.encode(prompts, settings)
        end = family.denoise(state, cond, settings, settings.steps)  # unprobed, among probed ones
        pixels = family.decode(end.latents)
        return trace.maps, trace.gap, end.latents, torch.from_numpy(pixels)

    alone = [run(job) for job in jobs]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        together = threading.Barrier(len(jobs))
        with ThreadPoolExecutor(len(jobs)) as pool:
            shared = list(pool.map(lambda job: run(job, together), jobs))
    finally:
        sys.setswitchinterval(before)
    for expected, found in zip(alone, shared, strict=True):
        assert all(torch.equal(*pair) for pair in zip(expected, found, strict=True))


def test_what_others_run_during_a_capture_is_not_seen(ddim_pipeline: Any) -> None:
    """Even outside our lock: a thread that calls the pipeline itself leaves no map behind."""
    family: Any = family_of(ddim_pipeline)
    settings = Settings(4, 0.0, 32, 32)
    cond = family.encode(["a cat"], settings)
    capture = family.capture(torch.eye(cond.embeddings.shape[1])[None], settings)
    latents = family.draw_noise([0], settings).latents
    with capture, inputs_of(family.layers()) as given:
        other = threading.Thread(
            target=lambda: ddim_pipeline.unet(latents, torch.tensor(500), **cond.cond)
        )
        other.start()
        other.join()
        assert capture._found == {}
        assert given == {}
        with torch.no_grad():
            ddim_pipeline.unet(latents, torch.tensor(500), **cond.cond)
    assert len(capture.take()) == len(family.layers())
