"""Claims: several processes fill one folder, and each candidate is collected once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from promptprobe.probe.training.shards import read_rows, shards_of, write_shard
from promptprobe.tools.collect.claims import FOLDER, Claims
from promptprobe.tools.collect.prompts import Job, Wanted, jobs
from tests.probe.planted import WINDOWS, at, planted
from tests.processes import FORKS

PLAN = list(jobs([Wanted(prompt=f"prompt {number}") for number in range(12)], 2))


def write(path: Path, chosen: Sequence[Job]) -> None:
    """A shard of these candidates; what it holds of them matters to nobody here."""
    examples = planted(4)
    places = range(len(chosen))
    rows = [
        examples.rows[place].model_copy(update={"prompt": job.wanted.prompt, "seed": job.seed})
        for place, job in zip(places, chosen, strict=True)
    ]
    write_shard(path, {k: at(examples, places, w)[0] for w, k in enumerate(WINDOWS)}, rows)


def fill(folder: Path) -> None:
    torch.set_num_threads(1)
    claims = Claims(folder)
    while True:
        with claims.next(PLAN, 4) as claimed:
            if claimed is None:
                return
            write(*claimed)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_processes_that_share_a_folder_write_what_one_would_have_written(tmp_path: Path) -> None:
    fill(tmp_path / "alone")
    others = [FORKS.Process(target=fill, args=(tmp_path / "shared",)) for _ in range(2)]
    for process in others:
        process.start()
    for process in others:
        process.join()
        assert process.exitcode == 0
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")
    rows = [row for path in shards_of(tmp_path / "shared") for row in read_rows(path)]
    assert [(row.prompt, row.seed) for row in rows] == [job.key for group in PLAN for job in group]


def test_what_another_collects_is_passed_over_and_taken_over_when_it_dies(tmp_path: Path) -> None:
    ours, theirs = Claims(tmp_path), Claims(tmp_path)
    with ours.next(PLAN, 4) as first, theirs.next(PLAN, 4) as second:
        assert first is not None and second is not None
        assert [path.name for path in (first[0], second[0])] == [
            "shard-00000.safetensors",
            "shard-00001.safetensors",
        ]
        assert not {job.key for job in first[1]} & {job.key for job in second[1]}
        write(*second)
    # The first claim was given up without a shard, as a killed process leaves it.
    (tmp_path / FOLDER / "00000.json").write_text("half a cla")
    with theirs.next(PLAN, 4) as again:
        assert again == first
