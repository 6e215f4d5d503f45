"""Work that nobody waits for any longer ends between two steps, in the thread that does it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from promptprobe.probe.cancellation import WorkCancelledError, cancellable, check_cancelled
from promptprobe.probe.families import family_of
from promptprobe.probe.families.family import Settings


def test_a_cancelled_task_ends_its_thread_at_the_next_step(ddim_pipeline: Any) -> None:
    family = family_of(ddim_pipeline)
    settings = Settings(steps=4, guidance=1.0, height=32, width=32, negative_prompt="")
    conditioning = family.encode(["a cat"], settings)
    stood, go_on = threading.Event(), threading.Event()
    steps: list[int] = []
    ended: list[BaseException] = []

    def observe(step: int, *_: Any) -> None:
        steps.append(step)
        stood.set()
        go_on.wait()

    def draw() -> None:
        try:
            family.denoise(family.draw_noise([0], settings), conditioning, settings, 4, observe)
        except WorkCancelledError as error:
            ended.append(error)

    async def work() -> None:
        with cancellable():
            await asyncio.to_thread(draw)

    async def cancel() -> None:
        task = asyncio.create_task(work())
        await asyncio.to_thread(stood.wait)
        task.cancel()
        await asyncio.wait([task])
        go_on.set()

    asyncio.run(cancel())
    assert steps == [0]
    assert len(ended) == 1


def test_work_that_goes_well_is_never_cancelled() -> None:
    with cancellable():
        check_cancelled()
    check_cancelled()
    with pytest.raises(WorkCancelledError), cancellable():
        raise WorkCancelledError
    check_cancelled()
