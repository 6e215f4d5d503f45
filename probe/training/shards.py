"""Traces on disk: what a collection writes and training reads.

A shard is a safetensors file of half-precision tensors and a parquet table with a row a candidate.
Words are concatenated without padding. The tensors are renamed into place last, so a shard whose
`.safetensors` exists is complete, even if the writer was killed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from promptprobe.probe.files import replacing, save_tensors
from promptprobe.probe.model.card import Frozen, ModelSpec
from promptprobe.probe.model.network import PreviewScore
from promptprobe.probe.trace import Trace

COLLECTION = "collection.json"
FORMAT: Final = "promptprobe shards 2"
TENSORS = {"maps": 1, "embeddings": 0, "x0": 1, "gap": 1}
"""By name, the axis of words or candidates, along which shards are concatenated."""
OF_WORDS = ("maps", "embeddings")
BY_TARGET = ("scores", "preview_scores")
"""Fields of a row that a table fills with None, so that all rows have the same targets."""
MOST_WORDS = 1000


class ShardError(ValueError):
    """A shard that cannot be read, or that does not belong with the others."""


class PreviewScores(Frozen):
    """A judge's scores of a preview."""

    score: float | None
    words: tuple[float | None, ...] = Field(
        max_length=MOST_WORDS, description="chance that each word of the row is drawn as asked"
    )


class Row(Frozen):
    """One candidate and the judgement of its finished image."""

    scene: str = Field(max_length=4000, description="content; all its phrasings share a split")
    prompt: str = Field(max_length=4000)
    seed: int
    kind: str = Field("", max_length=100)
    split: str = Field(max_length=100)
    scores: dict[str, float] = Field(max_length=16, description="by target; unscored is left out")
    correct: bool | None = None
    explanation: str = ""
    words: tuple[str, ...] = Field(max_length=MOST_WORDS, description="content words, as traced")
    drawn: tuple[bool | None, ...] = Field(
        max_length=MOST_WORDS, description="whether each was drawn as asked; None if unknown"
    )
    previews: tuple[PreviewScores, ...] = Field(max_length=32, description="one for each window")
    preview_scores: dict[str, tuple[float | None, ...]] = Field(
        default_factory=dict, max_length=16, description="of the other targets, for each window"
    )

    def looks(self, targets: Sequence[str], window: int) -> list[float | None]:
        """Each target's score of the preview at an index among the windows; None if unscored."""
        others = [self.preview_scores.get(name) for name in targets[1:]]
        first = self.previews[window].score if window < len(self.previews) else None
        return [first, *(None if found is None else found[window] for found in others)]


class Collection(Frozen):
    """The settings of every shard in a folder; a folder never mixes two."""

    format: Literal["promptprobe shards 2"] = FORMAT
    model: str
    targets: tuple[str, ...] = Field(
        min_length=1, max_length=16, description="scores to learn; the first also labels words"
    )
    judges: tuple[str, ...] = Field(
        (), max_length=16, description="scores that are used for grading only, never learned"
    )
    windows: tuple[int, ...] = Field(
        min_length=1, max_length=32, description="numbers of steps after which there is a trace"
    )
    facts: ModelSpec


@dataclass(frozen=True)
class Examples:
    """Many candidates in memory, in half precision; `batch` turns some of them into a Trace."""

    maps: Float[Tensor, "window total layer row col"]
    embeddings: Float[Tensor, "total dim"]
    starts: Int[Tensor, " candidates_and_end"]
    """Offset of each candidate's words along `total`, followed by the total."""
    x0: Float[Tensor, "window candidate channel height width"]
    gap: Float[Tensor, "window candidate channel height width"]
    rows: tuple[Row, ...]
    layers: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(
        self, indices: Sequence[int], window: Int[Tensor, " batch"]
    ) -> tuple[Trace, PreviewScore]:
        """These candidates, each after the steps of its window, padded to the most words; float32.

        Preview scores stay on the judge's own scale.
        """
        at = torch.as_tensor(indices, dtype=torch.long)
        counts = self.starts[at + 1] - self.starts[at]
        longest = max(1, int(counts.max()))
        mask = torch.arange(longest) < counts[:, None]
        flat = (self.starts[at, None] + torch.arange(longest))[mask]
        maps = torch.zeros(*mask.shape, *self.maps.shape[2:])
        embeddings = torch.zeros(*mask.shape, *self.embeddings.shape[1:])
        owner = mask.nonzero()[:, 0]
        maps[mask] = self.maps[window[owner], flat].float()
        embeddings[mask] = self.embeddings[flat].float()
        previews = [
            self.rows[i].previews[place] for i, place in zip(indices, window.tolist(), strict=True)
        ]
        look = PreviewScore(
            torch.tensor([_or_nan(one.score) for one in previews]),
            padded([one.words for one in previews], longest),
        )
        trace = Trace(
            maps=maps,
            mask=mask,
            embeddings=embeddings,
            x0=self.x0[window, at].float(),
            gap=self.gap[window, at].float(),
            words=tuple(self.rows[i].words for i in indices),
            layers=self.layers,
        )
        return trace, look

    def take(self, indices: Sequence[int], windows: Sequence[int]) -> Examples:
        """Only these candidates and these windows (by index), in the order given."""
        at, places = (torch.as_tensor(chosen, dtype=torch.long) for chosen in (indices, windows))
        rows = [self.rows[i] for i in indices]
        words = [torch.arange(int(self.starts[i]), int(self.starts[i + 1])) for i in indices]
        flat = torch.cat(words)
        chosen = [
            row.model_copy(update={"previews": tuple(row.previews[place] for place in windows)})
            for row in rows
        ]
        return Examples(
            maps=self.maps[places][:, flat],
            embeddings=self.embeddings[flat],
            starts=_starts(rows),
            x0=self.x0[places][:, at],
            gap=self.gap[places][:, at],
            rows=tuple(chosen),
            layers=self.layers,
        )


def padded(
    rows: Sequence[Sequence[float | bool | None]], length: int = 0
) -> Float[Tensor, "batch word"]:
    """Stack rows of values, padded with nan to at least `length`; None becomes nan too."""
    table = torch.full((len(rows), max(length, *map(len, rows))), torch.nan)
    for row, values in enumerate(rows):
        table[row, : len(values)] = torch.tensor([_or_nan(value) for value in values])
    return table


def _or_nan(value: float | bool | None) -> float:
    return torch.nan if value is None else float(value)


def write_shard(path: Path, traces: Mapping[int, Trace], rows: Sequence[Row]) -> None:
    """Write `path` (.safetensors) and its table, each atomically.

    traces: of the same candidates after each window's steps, in the order of the rows' previews.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    halves = _halves(list(traces.values()))
    layers = next(iter(traces.values())).layers
    table = path.with_suffix(".parquet")
    with replacing(path) as tensors, replacing(table) as rest:
        pq.write_table(pa.Table.from_pylist([_fields(row) for row in rows]), rest)
        save_tensors(halves, tensors, {"layers": json.dumps(layers)})


def _fields(row: Row) -> dict[str, Any]:
    """The row as a table holds it: parquet has no empty structs, so empty scores become None."""
    fields = row.model_dump()
    return fields | {name: fields[name] or None for name in BY_TARGET}


def _halves(traces: Sequence[Trace]) -> dict[str, Tensor]:
    """The tensors of a shard, from traces of the same candidates, one for each window."""
    first = traces[0]
    tensors = {
        "maps": torch.stack([trace.maps[trace.mask] for trace in traces]),
        "embeddings": first.embeddings[first.mask],
        "x0": torch.stack([trace.x0 for trace in traces]),
        "gap": torch.stack([trace.gap for trace in traces]),
    }
    return {name: tensor.half().cpu().contiguous() for name, tensor in tensors.items()}


def as_examples(traces: Mapping[int, Trace], rows: Sequence[Row]) -> Examples:
    """The same data as `write_shard` writes, in memory."""
    found = list(traces.values())
    parts = _halves(found)
    return Examples(starts=_starts(rows), rows=tuple(rows), layers=found[0].layers, **parts)


def _starts(rows: Sequence[Row]) -> Tensor:
    return torch.tensor([0, *accumulate(len(row.words) for row in rows)])


def open_collection(folder: Path, collection: Collection) -> None:
    """Start or continue a folder of shards. ShardError: it was made with other settings."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / COLLECTION
    if not path.exists():
        with replacing(path) as partial:
            partial.write_text(collection.model_dump_json(indent=1) + "\n")
    before, now = read_collection(folder).model_dump(), collection.model_dump()
    before, now = before | before.pop("facts"), now | now.pop("facts")
    for name, value in now.items():
        if before[name] != value:
            raise ShardError(
                f"{folder} was collected with {name} {before[name]}, not {value}: choose another"
                " folder, or the former value"
            )


def read_collection(folder: Path) -> Collection:
    """The settings that a folder's shards were made with."""
    path = folder / COLLECTION
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ShardError(f"{path}: {error.strerror}; expected collected shards there") from error
    except (ValueError, RecursionError) as error:
        raise ShardError(f"{path} is not JSON: {error}") from error
    if isinstance(content, dict) and (other := content.get("format")) != FORMAT:
        raise ShardError(
            f"{path} has the format {str(other)[:80]!r}, but this version of promptprobe reads "
            f"{FORMAT!r}: use the version that wrote it, or collect into another folder"
        )
    try:
        return Collection.model_validate(content)
    except ValidationError as error:
        raise ShardError(f"{path} does not describe a collection: {error}") from error


def shards_of(folder: Path) -> list[Path]:
    """The complete shards of a folder, sorted by name."""
    return sorted(folder.glob("*.safetensors"))


def read_rows(path: Path) -> list[Row]:
    """The rows of one shard. ShardError names the first invalid row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = path.with_suffix(".parquet")
    if not table.is_file():
        raise ShardError(f"{table} is missing: {_again(path)}")
    try:
        found = pq.read_table(table).to_pylist()
    except pa.ArrowException as error:
        raise ShardError(f"{table} is not a parquet table: {error}; {_again(path)}") from error
    rows = []
    for number, fields in enumerate(found, 1):
        try:
            rows.append(Row.model_validate(_without_gaps(fields)))
        except ValidationError as error:
            raise ShardError(
                f"{table}, row {number} is invalid: {error}; {_again(path)}"
            ) from error
    return rows


def _without_gaps(fields: dict[str, Any]) -> dict[str, Any]:
    """Inverse of `_fields`: leave out the targets that a row lacks."""
    return fields | {
        name: {key: x for key, x in (fields.get(name) or {}).items() if x is not None}
        for name in BY_TARGET
    }


def read_shards(folder: Path) -> Examples:
    """Every candidate in a folder of shards, in the order of the shards' names.

    It needs as much memory as the files. ShardError: there are no shards, one is broken, or two
    differ in layers or sizes.
    """
    paths = shards_of(folder)
    if not paths:
        raise ShardError(f"no shards (*.safetensors) in {folder}: collect some first")
    tables = [read_rows(path) for path in paths]
    parts = [_read_tensors(path, rows) for path, rows in zip(paths, tables, strict=True)]
    layers, first = parts[0]
    expected = _sizes(first)
    for path, (names, tensors) in zip(paths, parts, strict=True):
        if (names, _sizes(tensors)) != (layers, expected):
            raise ShardError(
                f"{path} does not match {paths[0]}: sizes {_sizes(tensors)} against"
                f" {expected}, layers {names} against {layers}"
            )
    joined = {}
    for name, axis in TENSORS.items():  # one at a time, freeing its parts: maps are large
        joined[name] = torch.cat([tensors.pop(name) for _, tensors in parts], axis)
    rows = tuple(row for table in tables for row in table)
    return Examples(starts=_starts(rows), rows=rows, layers=layers, **joined)


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Sizes of all axes except the one along which shards are concatenated."""
    return {
        name: [size for axis, size in enumerate(tensors[name].shape) if axis != along]
        for name, along in TENSORS.items()
    }


def _read_tensors(path: Path, rows: list[Row]) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Layer names and tensors of one shard."""
    try:
        with safe_open(path, "pt") as file:
            layers = tuple(json.loads((file.metadata() or {})["layers"]))
            tensors = {name: file.get_tensor(name) for name in TENSORS}
        held = {name: tensors[name].shape[axis] for name, axis in TENSORS.items()}
    except (SafetensorError, KeyError, ValueError, IndexError) as error:
        raise ShardError(f"{path} is not a shard of traces: {error}; {_again(path)}") from error
    words = sum(len(row.words) for row in rows)
    expected = {name: words if name in OF_WORDS else len(rows) for name in TENSORS}
    if held != expected:
        raise ShardError(f"{path} holds {held}, but its rows expect {expected}; {_again(path)}")
    return layers, tensors


def _again(path: Path) -> str:
    return f"delete {path.stem}.* and collect again"
