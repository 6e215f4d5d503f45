"""What an eval runs on: a model, the scorer that selects, the judge that grades, and its probe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from promptprobe.tools.models.built_in import PLUGINS, BuiltIn, Evidence, built_in
from promptprobe.tools.nearest import did_you_mean
from promptprobe.tools.records import Generation, Score
from promptprobe.tools.scorers.table import TARGET, target_of

if TYPE_CHECKING:
    from promptprobe.probe.training.shards import Collection, Row
    from promptprobe.tools.scorers.scorer import Scorer

Images = NDArray[np.uint8]
Judge = Callable[[str, Images], list[Score]]
"""Maps a brief and images [n, height, width, 3] to one score for each image."""
DEFAULTS = Generation()
SHIPPED = "shipped"
NO_PROBE = "none: the figures are those of the x0 preview, graded by the scorer"
SAME_JUDGE = "the same scorer selected and graded, so its own errors count as gains: give a --judge"


@dataclass(frozen=True)
class Bench:
    """A model with its judges and its probe; evals use these and open nothing themselves."""

    name: str
    family: Any
    """A `probe.families.family.Family`."""
    settings: Any
    """Its `Settings`."""
    score: Judge
    """The scorer, which selects."""
    judge: Judge
    """The second judge, which never selects; the scorer again if there is no second judge."""
    probe: Any = None
    """A `probe.model.checkpoint.Probe`, checked against the model and the scorer, or None."""
    further: Mapping[str, Judge] = field(default_factory=dict)
    """Judges of the probe's other targets, by the target's name."""
    scorer: str = ""
    grader: str = ""
    """Names of the scorer and the second judge; equal if there is only one judge."""
    scorers: tuple[Scorer, ...] = ()
    """The distinct judges, to be tried before anything is drawn."""
    probe_name: str = NO_PROBE
    good: float | None = None
    """The score from which the caller calls an image good; None for the probe card's median."""
    own: BuiltIn | None = None
    """Extras of a built-in model."""
    asked: Mapping[str, Any] = field(default_factory=dict)
    """Model, scorer, probe and generation, as a `Session` takes them."""
    notes: tuple[str, ...] = ()
    """Notes for the reader of a report."""

    @property
    def target(self) -> str:
        """The name of the scorer's score in shards and cards."""
        return target_of(self.scorer)

    @cached_property
    def evidence(self) -> Evidence | None:
        """Held-out scenes, meanings and roles of a built-in model."""
        return self.own.evidence() if self.own else None

    def nfe(self, start: int = 0, stop: int = 0, *, of: int = 0) -> int:
        """Denoiser evaluations from step `start` to `stop` of a render in `of` steps (or all)."""
        settings = replace(self.settings, steps=of or self.settings.steps)
        return int(self.family.nfe(settings, start, stop or settings.steps))

    @cached_property
    def facts(self) -> Any:
        """The facts that a card is compared with; this hashes the weights."""
        from promptprobe.probe.model.card import model_spec_of

        return model_spec_of(self.family, self.settings)

    def probe_at(self, k: int) -> tuple[Any, int]:
        """The probe, or None if there is none for k steps, and its window for k steps."""
        from promptprobe.probe.model.card import ProbeError

        try:
            return self.probe, self.probe.card.window_for(k, self.facts) if self.probe else k
        except ProbeError:
            return None, k

    def names(self, row: Row) -> list[str]:
        """Features of the prompt for the prompt-only baseline: its kind of scene and its words.

        For a built-in model the words are its meanings, for any other model the traced words.
        """
        words = self.evidence.meanings(row.prompt) if self.evidence else map(str.lower, row.words)
        return [f"kind {row.kind}", *words]

    def roles(self, brief: str) -> Mapping[str, str]:
        """The roles of a brief's words; empty unless the model is built in."""
        return self.evidence.roles(brief) if self.evidence else {}


def own_of(model: str) -> BuiltIn:
    """The extras of a built-in model. ValueError: there is no such built-in model."""
    own = built_in(model)
    if own is None:
        raise ValueError(
            f"--model: expected a built-in model ({' or '.join(PLUGINS)}), got {model!r:.200}"
            f"{did_you_mean(model, PLUGINS)}"
        )
    return own


def open_bench(
    model: str = "sprites",
    generation: Generation = DEFAULTS,
    scorer: str | None = None,
    judge: str | None = None,
    probe: str | None = None,
    good: float | None = None,
) -> Bench:
    """Open a model with its judges and its probe.

    Args:
        model: a built-in model's name, a folder, or a hub id.
        generation: settings; those that are None take the model's defaults.
        scorer: selects among images; None for a built-in model's own.
        judge: grades and never selects; None for a built-in model's own, or the scorer.
        probe: a probe whose first target is the scorer's score; None for a built-in model's own if
            it fits, otherwise previews are used.
        good: see `Bench`.

    Raises:
        ValueError: something cannot be opened, weights are missing, or the probe does not fit.
    """
    from promptprobe.tools.models.model import open_model
    from promptprobe.tools.scorers.scorer import open_scorer
    from promptprobe.tools.toolbox import settings_of

    own = built_in(model)
    if scorer is None and own is None:
        raise ValueError(
            f"--scorer: expected the judge that selects among images of {model}; "
            "`promptprobe judges` lists the available ones"
        )
    selects = scorer or (own.scorer if own else "")
    grades = judge or (own.judge if own else selects)
    opened = open_model(model, generation)
    device = str(opened.generation.device)
    selector, grader = open_scorer(selects, device), open_scorer(grades, device)
    bench = Bench(
        opened.name,
        opened.family,
        settings_of(opened.generation),
        selector.of_arrays,
        grader.of_arrays,
        scorer=selects,
        grader=grades,
        scorers=(selector,) if grades == selects else (selector, grader),
        good=good,
        own=own,
        asked={"model": model, "scorer": scorer, "probe": probe, "generation": generation},
        notes=() if grades != selects else (SAME_JUDGE,),
    )
    return with_probe(bench, probe)


def with_probe(bench: Bench, spec: str | None) -> Bench:
    """The bench with a probe: the named one, or a built-in model's own if it fits.

    ValueError: the named probe does not fit.
    """
    from promptprobe.probe.model.card import ProbeError, check
    from promptprobe.probe.model.checkpoint import load_probe
    from promptprobe.tools.models.probes import locate_probe

    if spec is None and not (bench.own and bench.own.probe.is_dir()):
        return bench
    probe = load_probe(locate_probe(spec or bench.name))
    try:
        check(probe.card, bench.facts)
        if (first := probe.card.targets[0].name) != bench.target:
            raise ProbeError(
                f"the first score that this probe predicts is the {first}, but images are selected "
                f"by the {bench.target}: give the former's judge as the scorer, or train a probe"
            )
    except ProbeError as error:
        if spec is not None:
            raise
        return replace(bench, notes=(*bench.notes, f"the shipped probe does not fit: {error}"))
    further, notes = judges_of([target.name for target in probe.card.targets[1:]])
    return replace(
        bench,
        probe=probe,
        probe_name=spec or SHIPPED,
        further=further,
        notes=(*bench.notes, *notes),
    )


def judges_of(targets: list[str]) -> tuple[dict[str, Judge], list[str]]:
    """The judges that a card's targets are named after, and notes on those that are left out."""
    judges, notes = {}, []
    for target in targets:
        try:
            judges[target] = judge_of(target)
        except ValueError as error:
            notes.append(f"{target} is left out: {error}")
    return judges, notes


def judge_of(target: str) -> Judge:
    """The scorer that a probe's target is named after.

    ValueError: there is no such scorer, or a card, which is not trusted, may not name it.
    """
    from promptprobe.tools.scorers.function import names_code
    from promptprobe.tools.scorers.scorer import open_scorer

    name = target.removesuffix(TARGET)
    if names_code(name):
        raise ValueError(
            f"the probe's card names the judge {name!r:.200}, but a card may not decide which code "
            "runs or where pictures are sent"
        )
    return open_scorer(name).of_arrays


def collections(shards: Path | None, probe: str | None) -> list[Path]:
    """Folders of shards that the probe was trained on: the given one and the one next to it."""
    beside = Path(probe).parent / "shards" if probe and Path(probe).is_dir() else None
    return [folder for folder in (shards, beside) if folder is not None and folder.is_dir()]


def check_shards(bench: Bench, shards: Path) -> Collection:
    """The settings of a folder of shards.

    ValueError: it has no shards, or they are from another model, settings or scorer.
    """
    from promptprobe.probe.training.shards import read_collection

    collection = read_collection(shards)
    made = {**collection.facts.model_dump(), "first score": collection.targets[0]}
    used = {**bench.facts.model_dump(), "first score": bench.target}
    for name in made:
        if made[name] != used[name]:
            raise ValueError(
                f"{shards} was collected with {name} {made[name]!s:.100}, but the model measured "
                f"has {used[name]!s:.100}: give its own shards, or leave out --shards"
            )
    return collection
