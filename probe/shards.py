"""Traces on disk: what `collect` writes and `training` reads.

A shard is a safetensors file of half-precision tensors and, beside it, one JSON line a candidate.
Words are stored one after another without padding. The tensors are renamed into place last, so a
shard whose `.safetensors` exists is complete, however the writer died.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from promptprobe.probe.card import Facts
from promptprobe.probe.trace import Trace

COLLECTION = "collection.json"
OF_WORDS = ("maps", "embeddings")
OF_CANDIDATES = ("special", "x0", "gap")
TENSORS = OF_WORDS + OF_CANDIDATES


class ShardError(ValueError):
    """A shard that cannot be read, or that does not belong with the others."""


class Row(BaseModel):
    """One candidate and how its finished image was judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scene: str = Field(max_length=4000, description="canonical content of the brief")
    prompt: str = Field(max_length=4000)
    seed: int
    kind: str
    split: str
    score: float | None = Field(ge=0, le=1, description="None: unscored, never zero")
    preview: float | None = Field(ge=0, le=1, description="score of the x0 of the probed steps")
    correct: bool | None
    explanation: str = ""
    words: tuple[str, ...] = Field(description="the prompt's content words, as traced")

    @property
    def scored(self) -> bool:
        """Both the finished image and the preview: only then is there something to learn."""
        return self.score is not None and self.preview is not None


class Collection(BaseModel):
    """What every shard of a folder was made with; a folder never mixes two."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    target: str = Field(description="the score of the rows")
    seeds: int = Field(ge=1, description="per prompt")
    per_shard: int = Field(ge=1, description="prompts")
    rendered_in: str = Field(description="dtype of the steps after the probed ones")
    facts: Facts


@dataclass(frozen=True)
class Examples:
    """Many candidates in memory, in half precision; `batch` makes them a Trace again."""

    maps: Float[Tensor, "total layer row col"]
    embeddings: Float[Tensor, "total dim"]
    starts: Int[Tensor, " candidates_and_end"]
    """Where each candidate's words begin along `total`; the last number is the end."""
    special: Float[Tensor, "candidates layer row col"]
    x0: Float[Tensor, "candidate channel height width"]
    gap: Float[Tensor, "candidate channel height width"]
    rows: tuple[Row, ...]
    layers: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Sequence[int]) -> Trace:
        """These candidates as a float32 Trace, padded to the longest of them."""
        at = torch.as_tensor(indices, dtype=torch.long)
        counts = self.starts[at + 1] - self.starts[at]
        longest = int(counts.max())
        mask = torch.arange(longest) < counts[:, None]
        flat = (self.starts[at, None] + torch.arange(longest))[mask]
        maps = torch.zeros(*mask.shape, *self.maps.shape[1:])
        embeddings = torch.zeros(*mask.shape, *self.embeddings.shape[1:])
        maps[mask], embeddings[mask] = self.maps[flat].float(), self.embeddings[flat].float()
        words = tuple(self.rows[i].words for i in indices)
        whole = {name: getattr(self, name)[at].float() for name in OF_CANDIDATES}
        return Trace(
            maps=maps, mask=mask, embeddings=embeddings, words=words, layers=self.layers, **whole
        )


def write_shard(path: Path, trace: Trace, rows: Sequence[Row]) -> None:
    """Write `path` (.safetensors) and the rows beside it, each whole or not at all."""
    tensors = {name: getattr(trace, name)[trace.mask] for name in OF_WORDS}
    tensors |= {name: getattr(trace, name) for name in OF_CANDIDATES}
    halves = {name: tensor.half().cpu().contiguous() for name, tensor in tensors.items()}
    lines = path.with_suffix(".jsonl")
    partial = {target: target.with_suffix(target.suffix + ".partial") for target in (lines, path)}
    partial[lines].write_text("".join(row.model_dump_json() + "\n" for row in rows))
    save_file(halves, partial[path], metadata={"layers": json.dumps(trace.layers)})
    for target, written in partial.items():
        written.replace(target)


def open_collection(folder: Path, collection: Collection) -> None:
    """Start a folder of shards, or go on with one. ShardError: it was made with something else."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / COLLECTION
    if not path.exists():
        partial = path.with_suffix(".partial")
        partial.write_text(collection.model_dump_json(indent=1) + "\n")
        partial.replace(path)
    before, now = read_collection(folder).model_dump(), collection.model_dump()
    before, now = before | before.pop("facts"), now | now.pop("facts")
    for name, value in now.items():
        if before[name] != value:
            raise ShardError(
                f"{folder} was collected with {name} {before[name]}, not {value}: choose another"
                " folder, or the former"
            )


def read_collection(folder: Path) -> Collection:
    """What a folder's shards were made with."""
    path = folder / COLLECTION
    try:
        return Collection.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ShardError(f"{path}: {error.strerror}; expected collected shards there") from error
    except ValidationError as error:
        raise ShardError(f"{path} describes no collection: {error}") from error


def read_rows(path: Path) -> list[Row]:
    """The rows of one shard. ShardError names the line that is no row."""
    lines = path.with_suffix(".jsonl")
    if not lines.is_file():
        raise ShardError(f"{lines} is missing: {_again(path)}")
    rows = []
    for number, line in enumerate(lines.read_text().splitlines(), 1):
        try:
            rows.append(Row.model_validate_json(line))
        except ValidationError as error:
            problem = f"{lines}, line {number} is no row: {error}; {_again(path)}"
            raise ShardError(problem) from error
    return rows


def read_shards(folder: Path) -> Examples:
    """Every scored candidate of a folder of shards, in the order of their names.

    Memory: about 35 kB a candidate on Sprites. ShardError: no shards, a broken one, or two that
    differ in layers or sizes.
    """
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise ShardError(f"no shards (*.safetensors) in {folder}: run promptprobe.tools.collect")
    tables = [read_rows(path) for path in paths]
    parts = [_read_tensors(path, rows) for path, rows in zip(paths, tables, strict=True)]
    layers, first = parts[0][0], parts[0][1]
    for path, (names, tensors) in zip(paths, parts, strict=True):
        sizes = {name: list(tensors[name].shape[1:]) for name in TENSORS}
        expected = {name: list(first[name].shape[1:]) for name in TENSORS}
        if (names, sizes) != (layers, expected):
            raise ShardError(
                f"{path} does not belong with {paths[0]}: sizes {sizes} against {expected},"
                f" layers {names} against {layers}"
            )
    joined = {}
    for name in TENSORS:  # one at a time, letting go of the parts: the maps are large
        joined[name] = torch.cat([tensors.pop(name) for _, tensors in parts])
    rows = tuple(row for table in tables for row in table if row.scored)
    if not rows:
        raise ShardError(f"none of the candidates in {folder} has a score")
    starts = torch.tensor([0, *accumulate(len(row.words) for row in rows)])
    return Examples(starts=starts, rows=rows, layers=layers, **joined)


def _read_tensors(path: Path, rows: list[Row]) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Layer names and tensors of one shard, without its unscored candidates."""
    try:
        with safe_open(path, "pt") as file:
            layers = tuple(json.loads((file.metadata() or {})["layers"]))
            tensors = {name: file.get_tensor(name) for name in TENSORS}
    except (SafetensorError, KeyError, ValueError) as error:
        raise ShardError(f"{path} is no shard of traces: {error}; {_again(path)}") from error
    words = sum(len(row.words) for row in rows)
    held = {name: len(tensor) for name, tensor in tensors.items()}
    expected = dict.fromkeys(OF_WORDS, words) | dict.fromkeys(OF_CANDIDATES, len(rows))
    if held != expected:
        raise ShardError(f"{path} holds {held}, its rows promise {expected}; {_again(path)}")
    if all(row.scored for row in rows):
        return layers, tensors
    scored = torch.tensor([row.scored for row in rows])
    counts = torch.tensor([len(row.words) for row in rows])
    keep = dict.fromkeys(OF_CANDIDATES, scored)
    keep |= dict.fromkeys(OF_WORDS, scored.repeat_interleave(counts))
    return layers, {name: tensor[keep[name]] for name, tensor in tensors.items()}


def _again(path: Path) -> str:
    return f"delete {path.stem}.* and collect again"
