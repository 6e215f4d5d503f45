"""The models that come with this package: one record each, which everything else asks.

What only such a model has (judges that know its world, a reader of briefs, a rewriter) enters the
rest of the code through this record and in no other way. A further model is one more line in the
table. A plug-in's module is imported when one of its models is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from promptprobe.tools.splits import seed_of

if TYPE_CHECKING:
    import numpy as np

    from promptprobe.tools.scorers.table import Judge

DEFAULT_MODEL = "sprites"
"""What is drawn with where nobody names a model."""
PLUGINS = {
    "sprites": "promptprobe.tools.sprites.plugin",
    "sprites-flow": "promptprobe.tools.sprites.plugin",
}
"""The module that describes a built-in model: its `MODELS` holds the record by the same name."""


@dataclass(frozen=True)
class Brief:
    """A brief to measure on, with seeds of its own."""

    text: str
    content: str
    """What it asks for, whatever its wording: its seeds follow from this."""
    split: str
    kind: str = ""
    """Of what it asks for, for tables; empty: not known."""
    draw: Callable[[int], np.ndarray] | None = None
    """Faultless pictures of it, uint8 [height, width, 3], by number; None: nobody can draw them."""

    def seeds(self, count: int) -> list[int]:
        """The same for every wording of the content, and found in no other split."""
        return [seed_of(self.split, self.content, index) for index in range(count)]

    @property
    def run_seed(self) -> int:
        """The first seed of a run on it."""
        return seed_of("eval run", self.content, 0)


@dataclass(frozen=True)
class Evidence:
    """What evals may ask of a built-in model, beyond what they ask of any model."""

    held_out: Callable[[int, str], list[Brief]]
    """So many briefs of "test", "validation" or another split that no training has seen.
    ValueError: there are not so many, or there is no such split."""
    common_words: Callable[[str], str]
    """A brief in the words that training saw most."""
    meanings: Callable[[str], list[str]]
    """The words of a prompt and what each means, as names for a baseline that sees nothing else."""
    roles: Callable[[str], Mapping[str, str]]
    """What each word of a brief that asks for something is, such as a colour, by the word."""


@dataclass(frozen=True)
class BuiltIn:
    """A model that comes with this package, and all that only it has."""

    name: str
    pipeline: Path
    """A folder that `DiffusionPipeline.from_pretrained` reads."""
    probe: Path
    """Its probe's weights and card."""
    draws: str
    """What it can draw, in a sentence for people and agents."""
    size: int
    """Height and width in pixels that it was trained for."""
    guidance: float
    """Chosen on validation prompts, as its pipeline's class counts it."""
    scorer: str
    """Which of `judges` selects where nobody names one."""
    judge: str
    """Which of them only grades, where nobody names one."""
    judges: Sequence[Judge]
    """Those that know its world, by their whole names."""
    check_brief: Callable[[str], list[str]]
    """Warnings about a brief. ValueError: the model cannot draw it, and which word it lacks."""
    check_rewrite: Callable[[str, str], str | None]
    """From brief and rewrite: why the rewrite asks for something else, "" where it does not, None
    where not all of both is in the model's language, so that somebody else has to decide."""
    rewrites: Callable[[str, int], Iterator[str]]
    """Other wordings of a brief, from a seed; repeats itself, ends, and needs no LLM."""
    rewriter: str
    """What makes those, in words for people."""
    evidence: Callable[[], Evidence]
    """Loads what evals may ask."""


def built_in(name: str | None) -> BuiltIn | None:
    """The record of a built-in model; None where no such model comes with the package."""
    if name not in PLUGINS:
        return None
    models: Mapping[str, BuiltIn] = import_module(PLUGINS[name]).MODELS
    return models[name]


def built_ins() -> list[BuiltIn]:
    """All of them, in the table's order."""
    return [found for name in PLUGINS if (found := built_in(name))]
