from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from promptprobe.tools.device import Batches


class Memory:
    """Work that fits three items at a time, and remembers what it was given."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.sizes: list[int] = []

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.sizes.append(len(items))
        if len(items) > 3:
            raise self.error
        return [2 * item for item in items]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_a_batch_that_does_not_fit_is_halved_and_the_size_remembered(error: BaseException):
    batches, work = Batches(8), Memory(error)
    told: list[str] = []
    assert batches.map(work, range(10), told.append) == [2 * item for item in range(10)]
    assert work.sizes == [8, 4, 2, 2, 2, 2, 2]
    assert told == [
        f"{size} images at once did not fit into memory: {size // 2} at once from now on"
        for size in (8, 4)
    ]
    assert batches.map(work, [1], told.append) == [2]


def test_one_item_that_does_not_fit_says_what_to_do():
    def never(items: Sequence[int]) -> list[int]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")

    with pytest.raises(MemoryError, match="use a smaller height and width"):
        Batches(4).map(never, [1, 2], print)


def test_another_error_is_not_swallowed():
    with pytest.raises(RuntimeError, match="shapes differ"):
        Batches(8).map(Memory(RuntimeError("shapes differ")), range(8), print)


def test_nothing_to_do_runs_nothing():
    work = Memory(RuntimeError())
    assert Batches(8).map(work, [], print) == []
    assert work.sizes == []
