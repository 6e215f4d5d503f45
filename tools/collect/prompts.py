"""Prompts to learn from: a file of them, which may also give their scene and split.

A scene is the content of a prompt, whatever its wording: all prompts of a scene share a split, and
no seed of a scene is used twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, ValidationError

from promptprobe.tools.prompt_files import (
    Row,
    foreign_syntax,
    read_prompt_file,
    unused_fields,
)
from promptprobe.tools.records import MAX_TEXT, Record, Text
from promptprobe.tools.splits import fraction, seed_of

USED = ("scene", "kind", "split")
"""Fields of a row, besides its prompt, that training uses."""
TRAINED = 0.7
"""Share of scenes to train on; half of the rest decide when to stop, half compare with previews."""


class Wanted(Record):
    """A prompt to draw and to learn from."""

    prompt: Text
    scene: str = Field("", max_length=MAX_TEXT, description="its content, by default the prompt")
    kind: str = Field("", max_length=100, description="for tables only")
    split: Literal["train", "validation"] | None = Field(
        None, description="by default, chosen by the scene's hash"
    )

    @property
    def content(self) -> str:
        return self.scene or content_of(self.prompt)

    @property
    def part(self) -> str:
        """The split that it belongs to."""
        known = fraction("learn", self.content) < TRAINED
        return self.split or ("train" if known else "validation")


class Job(NamedTuple):
    """One candidate to collect."""

    wanted: Wanted
    seed: int
    picture: Path | None = None
    """Its finished image, if one exists; then only the first steps are run."""

    @property
    def key(self) -> tuple[str, int]:
        return self.wanted.prompt, self.seed


def content_of(text: str) -> str:
    """A text normalized in case and white space, to recognize it again."""
    return " ".join(text.lower().split())


def read_prompts(path: Path) -> tuple[list[Wanted], str]:
    """The prompts of a file (for its formats see `read_prompt_file`), and a notice.

    The notice names fields that are not used and prompts in the syntax of other programs.

    Raises:
        ValueError: the file cannot be read, or a row cannot be used; the message names it.
    """
    rows = read_prompt_file(path)
    wanted = [_wanted(row, path) for row in rows]
    foreign = next(filter(None, (foreign_syntax(one.prompt) for one in wanted)), "")
    return wanted, "; ".join(filter(None, [unused_fields(rows, USED), foreign]))


def _wanted(row: Row, path: Path) -> Wanted:
    if row.problem:
        raise ValueError(f"{path}, {row.problem}")
    fields = {name: value for name, value in row.fields.items() if name in USED}
    try:
        return Wanted(prompt=row.prompt, **fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}, {row.where}: {where}: {first['msg']}") from error


def jobs(wanted: Iterable[Wanted], seeds: int) -> Iterator[list[Job]]:
    """Each prompt with its seeds, a function of the scene and of how often it occurred before."""
    taken: Counter[tuple[str, str]] = Counter()
    for one in wanted:
        turn = taken[one.part, one.content]
        taken[one.part, one.content] += 1
        indices = range(turn * seeds, (turn + 1) * seeds)
        yield [Job(one, seed_of(one.part, one.content, index)) for index in indices]
