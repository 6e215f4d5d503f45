"""The models that come with this package, each described by one record.

What only such a model has (judges that know its world, a reader of briefs, a rewriter) reaches the
rest of the code through this record and in no other way. Another model is one more line in the
table. A plug-in's module is imported when one of its models is first used.
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
"""The model used if none is named."""
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
    """What it asks for, whatever its wording; its seeds are derived from this."""
    split: str
    kind: str = ""
    """The kind of thing it asks for, for tables; empty if unknown."""
    draw: Callable[[int], np.ndarray] | None = None
    """Draws perfect pictures of it, uint8 [height, width, 3], by number; None if impossible."""

    def seeds(self, count: int) -> list[int]:
        """Seeds that are the same for every wording of the content, and in no other split."""
        return [seed_of(self.split, self.content, index) for index in range(count)]

    @property
    def run_seed(self) -> int:
        """The first seed of a run on this brief."""
        return seed_of("eval run", self.content, 0)


@dataclass(frozen=True)
class Evidence:
    """What evals use of a built-in model, beyond what any model offers."""

    held_out: Callable[[int, str], list[Brief]]
    """So many briefs of "test", "validation" or another split that no training has seen. Raises
    ValueError if there are too few, or no such split."""
    common_words: Callable[[str], str]
    """Rewrites a brief with the words most common in training."""
    meanings: Callable[[str], list[str]]
    """The words of a prompt and their meanings, for a baseline that sees only the prompt."""
    roles: Callable[[str], Mapping[str, str]]
    """The role, such as "colour", of each word of a brief that asks for something."""


@dataclass(frozen=True)
class BuiltIn:
    """A model that comes with this package, and everything specific to it."""

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
    """Guidance scale chosen on validation prompts, as its pipeline's class defines it."""
    scorer: str
    """The one of `judges` that selects if none is named."""
    judge: str
    """The one of `judges` that only grades if none is named."""
    judges: Sequence[Judge]
    """Judges that know its world, by their full names."""
    check_brief: Callable[[str], list[str]]
    """Warnings about a brief. Raises ValueError, naming the word, if the model cannot draw it."""
    check_rewrite: Callable[[str, str], str | None]
    """From brief and rewrite: why the rewrite asks for something else, "" if it does not, None if
    part of either is not in the model's language, so that another check has to decide."""
    rewrites: Callable[[str, int], Iterator[str]]
    """Other wordings of a brief, from a seed and without an LLM; finite, may repeat itself."""
    rewriter: str
    """A description of what makes those rewrites."""
    evidence: Callable[[], Evidence]
    """Loads what evals use."""


def built_in(name: str | None) -> BuiltIn | None:
    """The record of a built-in model; None if there is no such model."""
    if name not in PLUGINS:
        return None
    models: Mapping[str, BuiltIn] = import_module(PLUGINS[name]).MODELS
    return models[name]


def built_ins() -> list[BuiltIn]:
    """All built-in models, in the table's order."""
    return [found for name in PLUGINS if (found := built_in(name))]
