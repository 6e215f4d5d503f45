"""Shards: what is written is read again, and what is broken is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from promptprobe.probe.training.shards import (
    ShardError,
    open_collection,
    read_collection,
    read_shards,
    write_shard,
)
from tests.probe.planted import COLLECTION, FACTS, TARGETS, WINDOWS, at, planted


def write(path: Path, numbers: range, prompts: int = 4) -> None:
    examples = planted(prompts)
    traces = {k: at(examples, numbers, place)[0] for place, k in enumerate(WINDOWS)}
    write_shard(path, traces, [examples.rows[number] for number in numbers])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards of a few candidates."""
    for number, part in enumerate((range(10), range(10, len(planted(4))))):
        write(tmp_path / f"shard-{number}.safetensors", part)
    return tmp_path


def test_what_was_written_is_read_in_order(folder: Path) -> None:
    examples, read = planted(4), read_shards(folder)
    assert read.rows == examples.rows
    assert read.layers == examples.layers
    for name in ("maps", "embeddings", "starts", "x0", "gap"):
        assert torch.equal(getattr(read, name), getattr(examples, name)), name


def test_a_batch_is_a_trace_padded_to_its_longest_prompt() -> None:
    examples = planted(4)
    trace, look = at(examples, [0, 6])  # one word, two words
    assert trace.mask.tolist() == [[True, False], [True, True]]
    assert torch.equal(trace.maps[1], examples.maps[1, 6:8].float())
    assert not trace.maps[0, 1].any()
    assert trace.words == (("word0",), ("word0", "word1"))
    assert look.words.isnan().tolist() == [[False, True], [True, False]]
    assert look.score.tolist() == [examples.rows[at].previews[1].score for at in (0, 6)]


def test_each_candidate_of_a_batch_has_its_own_window() -> None:
    examples = planted(4)
    trace, look = examples.batch([0, 0], torch.tensor([0, 1]))
    assert torch.equal(trace.maps[0, 0], examples.maps[0, 0].float())
    assert torch.equal(trace.maps[1, 0], examples.maps[1, 0].float())
    assert torch.equal(trace.x0, examples.x0[:, 0].float())
    assert look.score.isnan().tolist() == [True, False]


def test_an_unscored_candidate_stays_and_lacks_only_its_score(tmp_path: Path) -> None:
    examples = planted(3)
    rows = [
        row.model_copy(update={"scores": {TARGETS[1]: 3.0} if number == 7 else {}})
        if number > 5
        else row
        for number, row in enumerate(examples.rows)
    ]
    everything = range(len(rows))
    traces = {k: at(examples, everything, place)[0] for place, k in enumerate(WINDOWS)}
    write_shard(tmp_path / "0.safetensors", traces, rows)
    assert read_shards(tmp_path).rows == tuple(rows)


def test_a_folder_without_shards_says_so(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"no shards .*collect some first"):
        read_shards(tmp_path)


def test_a_truncated_shard_is_named(folder: Path) -> None:
    path = folder / "shard-1.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ShardError, match=r"shard-1.safetensors is not a shard.*delete shard-1"):
        read_shards(folder)


def test_broken_missing_and_foreign_tables_are_named(folder: Path) -> None:
    table = folder / "shard-0.parquet"
    (folder / "shard-1.parquet").replace(table)
    write(folder / "shard-1.safetensors", range(10, len(planted(4))))
    with pytest.raises(ShardError, match="but its rows expect"):
        read_shards(folder)
    table.write_bytes(b"garbage")
    with pytest.raises(ShardError, match=r"shard-0.parquet is not a parquet table"):
        read_shards(folder)
    table.unlink()
    with pytest.raises(ShardError, match=r"shard-0.parquet is missing"):
        read_shards(folder)


def test_a_row_that_is_none_is_named_by_its_number(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([{"prompt": "a cat"}]), folder / "shard-0.parquet")
    with pytest.raises(ShardError, match=r"shard-0.parquet, row 1 is invalid: 6 validation errors"):
        read_shards(folder)


def test_a_folder_never_mixes_two_collections(tmp_path: Path) -> None:
    open_collection(tmp_path, COLLECTION)
    open_collection(tmp_path, COLLECTION)
    assert read_collection(tmp_path) == COLLECTION
    other = FACTS.model_copy(update={"guidance": 7.5})
    with pytest.raises(ShardError, match=r"collected with guidance 3.0, not 7.5"):
        open_collection(tmp_path, COLLECTION.model_copy(update={"facts": other}))
    with pytest.raises(ShardError, match=r"collected with windows \(2, 5\), not \(1,\)"):
        open_collection(tmp_path, COLLECTION.model_copy(update={"windows": (1,)}))


def test_shards_of_another_version_and_half_a_description_are_named(tmp_path: Path) -> None:
    path = tmp_path / "collection.json"
    path.write_text(COLLECTION.model_dump_json().replace("shards 2", "shards 3"))
    with pytest.raises(
        ShardError, match=r"has the format 'promptprobe shards 3', but this version"
    ):
        read_collection(tmp_path)
    path.write_text(COLLECTION.model_dump_json()[:-40])
    with pytest.raises(ShardError, match=r"collection.json is not JSON"):
        read_collection(tmp_path)


def test_candidates_that_nobody_scored_are_kept(tmp_path: Path) -> None:
    examples = planted(1)
    everything = range(len(examples))
    rows = [row.model_copy(update={"scores": {}}) for row in examples.rows]
    traces = {k: at(examples, everything, place)[0] for place, k in enumerate(WINDOWS)}
    write_shard(tmp_path / "0.safetensors", traces, rows)
    assert read_shards(tmp_path).rows == tuple(rows)
