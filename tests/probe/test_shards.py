"""Shards: what is written is read again, and what is broken is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from promptprobe.probe.shards import (
    Collection,
    ShardError,
    open_collection,
    read_shards,
    write_shard,
)
from tests.probe.planted import FACTS, planted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards of a few candidates."""
    examples = planted(4)
    for number, part in enumerate((range(10), range(10, len(examples)))):
        rows = [examples.rows[at] for at in part]
        write_shard(tmp_path / f"train-{number}.safetensors", examples.batch(part), rows)
    return tmp_path


def test_what_was_written_is_read_in_order(folder: Path) -> None:
    examples, read = planted(4), read_shards(folder)
    assert read.rows == examples.rows
    assert read.layers == examples.layers
    for name in ("maps", "embeddings", "starts", "x0", "gap"):
        assert torch.equal(getattr(read, name), getattr(examples, name)), name


def test_a_batch_is_a_trace_padded_to_its_longest_prompt() -> None:
    examples = planted(4)
    trace = examples.batch([0, 6])  # one word, two words
    assert trace.mask.tolist() == [[True, False], [True, True]]
    assert torch.equal(trace.maps[1], examples.maps[6:8].float())
    assert not trace.maps[0, 1].any()
    assert trace.words == (("word0",), ("word0", "word1"))


def test_unscored_candidates_are_left_out_with_their_words(tmp_path: Path) -> None:
    examples = planted(3)
    rows = [
        row.model_copy(update={"score": None}) if at == 7 else row
        for at, row in enumerate(examples.rows)
    ]
    write_shard(tmp_path / "0.safetensors", examples.batch(range(len(rows))), rows)
    read = read_shards(tmp_path)
    assert len(read) == len(examples) - 1
    assert torch.equal(read.batch([7]).maps, examples.batch([8]).maps)
    assert torch.equal(read.x0[7], examples.x0[8])


def test_a_folder_without_shards_says_how_to_make_some(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"no shards .* run promptprobe.tools.collect"):
        read_shards(tmp_path)


def test_a_truncated_shard_is_named(folder: Path) -> None:
    path = folder / "train-1.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ShardError, match=r"train-1.safetensors is no shard.*delete train-1"):
        read_shards(folder)


def test_missing_and_surplus_rows_are_named(folder: Path) -> None:
    rows = folder / "train-0.jsonl"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ShardError, match="its rows promise"):
        read_shards(folder)
    rows.write_text("{}\n")
    with pytest.raises(ShardError, match=r"train-0.jsonl, line 1 is no row"):
        read_shards(folder)
    rows.unlink()
    with pytest.raises(ShardError, match=r"train-0.jsonl is missing"):
        read_shards(folder)


def test_a_folder_never_mixes_two_collections(tmp_path: Path) -> None:
    made = Collection(
        model="tiny", target="t", seeds=8, per_shard=64, rendered_in="float32", facts=FACTS
    )
    open_collection(tmp_path, made)
    open_collection(tmp_path, made)
    other = made.model_copy(update={"facts": FACTS.model_copy(update={"guidance": 7.5})})
    with pytest.raises(ShardError, match=r"collected with guidance 3.0, not 7.5"):
        open_collection(tmp_path, other)
