"""Prompts to learn from: a text file with one a line, or JSON lines that say more.

A scene is what a prompt asks for, whatever its wording: all prompts of a scene share a split, and
no seed of a scene is used twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, ValidationError

from promptprobe.tools.records import MAX_TEXT, Record, Text
from promptprobe.tools.splits import fraction, seed_of

MOST = 1_000_000
MOST_CHARACTERS = 4 * MAX_TEXT
TRAINED = 0.8
"""Share of scenes to train on; the others validate."""


class Wanted(Record):
    """A prompt to draw and to learn from."""

    prompt: Text
    scene: str = Field("", max_length=MAX_TEXT, description="its content; empty: the prompt itself")
    kind: str = Field("", max_length=100, description="for tables only")
    split: Literal["train", "validation"] | None = Field(None, description="None: by the scene")

    @property
    def content(self) -> str:
        return self.scene or " ".join(self.prompt.lower().split())

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
    """Its finished image, where there is one already: only its first steps are run then."""

    @property
    def key(self) -> tuple[str, int]:
        return self.wanted.prompt, self.seed


def read_prompts(path: Path) -> list[Wanted]:
    """The prompts of a file, `.jsonl` with records or else one a line; empty lines are left out.

    ValueError names the file and the line.
    """
    wanted = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(islice(file, MOST + 1), 1):
                if number > MOST or len(line) > MOST_CHARACTERS:
                    raise ValueError(
                        f"{path}, line {number}: expected at most {MOST} lines of at most "
                        f"{MOST_CHARACTERS} characters"
                    )
                if line.strip():
                    wanted.append(_parsed(line, path, number))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error}") from error
    if not wanted:
        raise ValueError(f"{path} holds no prompt: expected one a line, or JSON lines")
    return wanted


def _parsed(line: str, path: Path, number: int) -> Wanted:
    try:
        if path.suffix == ".jsonl":
            return Wanted.model_validate_json(line)
        return Wanted(prompt=line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}, line {number}: {where}: {first['msg']}") from error


def jobs(wanted: Iterable[Wanted], seeds: int) -> Iterator[list[Job]]:
    """Each prompt with its seeds: a function of the scene and of how often it came before."""
    taken: Counter[tuple[str, str]] = Counter()
    for one in wanted:
        turn = taken[one.part, one.content]
        taken[one.part, one.content] += 1
        indices = range(turn * seeds, (turn + 1) * seeds)
        yield [Job(one, seed_of(one.part, one.content, index)) for index in indices]
