"""Judges of finished images, opened by name, from the caller's function, or combined from several.

A judge that fails leaves an image unscored, with the reason; it never yields a zero, which would
mean "this picture is bad".
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from promptprobe.tools.models.built_in import built_ins
from promptprobe.tools.nearest import did_you_mean
from promptprobe.tools.records import Score
from promptprobe.tools.scorers.combination import combined
from promptprobe.tools.scorers.function import EXPECTED, open_function
from promptprobe.tools.scorers.table import (
    JOINT,
    TABLE,
    UNIT,
    Judge,
    Opened,
    Spec,
    name_of,
    specs_of,
)

if TYPE_CHECKING:
    from promptprobe.probe.families.family import Images
    from promptprobe.tools.scorers.table import Pictures, ScoreImages

REASON_LIMIT = 300
NOISE_SIDE = 224


@dataclass(frozen=True)
class Scorer:
    """A judge with a name. Calling it never raises: a failure is a score without a value."""

    name: str
    score_images: ScoreImages
    unread: Callable[[str], Sequence[str]] = field(default=lambda brief: ())
    """The words of a brief that it does not read."""
    may_decline: bool = False
    """Whether a score without a value is a valid answer and not a failure."""
    usual: tuple[float, float] = UNIT
    """The values that are mapped to 0 and 1 if it is combined with other scorers."""
    tried_on: int = 1
    """Number of noise images that it is tested on before a run."""
    parts: tuple[Scorer, ...] = ()
    """The scorers that this one combines, if any."""

    def __call__(self, brief: str, images: Pictures) -> list[Score]:
        """One score per image, in order."""
        if not images:
            return []
        try:
            scores = list(self.score_images(brief, images))
        except Exception as error:  # noqa: BLE001 - no error of a judge may cost the images
            return [unscored(self.name, error)] * len(images)
        if len(scores) != len(images):
            reason = f"{self.name} returned {len(scores)} scores for {len(images)} images"
            return [Score(reason=reason, failed=True)] * len(images)
        return [self._explained(score) for score in scores]

    def of_arrays(self, brief: str, images: Images) -> list[Score]:
        """Scores of images given as arrays."""
        from PIL import Image

        return self(brief, [Image.fromarray(image) for image in images])

    def of_files(self, brief: str, paths: Sequence[Path]) -> list[Score]:
        """Scores of image files, in order; only an image that cannot be read is unscored."""
        from PIL import Image

        scores: dict[int, Score] = {}
        images: dict[int, Image.Image] = {}
        for at, path in enumerate(paths):
            try:
                with Image.open(path) as opened:
                    images[at] = opened.convert("RGB")
            except (OSError, ValueError, Image.DecompressionBombError) as error:
                scores[at] = Score(reason=f"the image {path} cannot be read: {error}")
        scores |= zip(images, self(brief, list(images.values())), strict=True)
        return [scores[at] for at in range(len(paths))]

    def check(self, brief: str) -> None:
        """Test the judge on an image of noise, before anything is spent.

        Raises:
            ValueError: it cannot judge this brief, or cannot be called at all.
        """
        from PIL import Image

        pixels = Random(0).randbytes(3 * NOISE_SIDE**2)
        noise = Image.frombytes("RGB", (NOISE_SIDE, NOISE_SIDE), pixels)
        score = self(brief, [noise] * self.tried_on)[-1]
        if score.failed:
            wrong_call = any(one in score.reason for one in ("TypeError", "AttributeError"))
            hint = f". Expected {EXPECTED}" if self.may_decline and wrong_call else ""
            raise ValueError(
                f"the judge {self.name} gave no score for an image of noise, on which it is "
                f"tested before anything is drawn: {score.reason}{hint}"
            )

    def _explained(self, score: Score) -> Score:
        """The score; if it has no value, with a reason and whether that is a failure."""
        if score.value is not None:
            return score
        reason = score.reason or f"{self.name} gave neither a value nor a reason"
        failed = score.failed or not score.reason or not self.may_decline
        return score.model_copy(update={"reason": reason, "failed": failed})


def open_judge(spec: Spec, device: str = "cpu") -> Scorer:
    """The one judge that `spec` names.

    Raises:
        ValueError: unknown name, or one that does not load; the message says what was tried.
    """
    if callable(spec):
        return _named(name_of(spec), open_function(spec))
    judge, argument = _found(spec)
    opened: Opened = pkgutil.resolve_name(judge.opens)(argument, device)
    return _named(spec, opened, judge.usual)


def open_scorer(
    spec: Spec | Sequence[Spec],
    device: str = "cpu",
    open_one: Callable[[Spec, str], Scorer] = open_judge,
) -> Scorer:
    """The judge that `spec` names, or several combined, from a list or a name "ocr + pickscore".

    Args:
        spec: one or more names or functions.
        device: where models run.
        open_one: opens a single judge.

    Raises:
        ValueError: a name is unknown, does not load, or appears twice.
    """
    specs = specs_of(spec)
    if len(specs) == 1:
        return open_one(specs[0], device)
    parts = open_judges(specs, device, open_one)
    together = _named(JOINT.join(part.name for part in parts), combined(parts))
    return replace(together, parts=tuple(parts))


def open_judges(
    specs: Sequence[Spec],
    device: str = "cpu",
    open_one: Callable[[Spec, str], Scorer] = open_judge,
) -> list[Scorer]:
    """Several separate judges. Raises ValueError as `open_scorer` does, or if names are equal."""
    opened = [open_scorer(spec, device, open_one) for spec in specs]
    names = [judge.name for judge in opened]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two judges are called {twice!r}: leave one out, or rename a function")
    return opened


def check_names(specs: Sequence[Spec | Sequence[Spec]]) -> None:
    """Raise ValueError if one of these names is not a judge; nothing is opened."""
    for spec in (one for several in specs for one in specs_of(several)):
        if isinstance(spec, str):
            _found(spec)


def judges() -> list[Judge]:
    """Every judge that can be named: those for any model, then those of built-in models."""
    own = {judge.name: judge for model in built_ins() for judge in model.judges}
    return [*TABLE, *own.values()]


def known_scorers() -> str:
    """A description of what `open_scorer` takes."""
    names = dict.fromkeys(judge.name for judge in judges())
    return f"{', '.join(names)}, or in Python a callable (brief, image) -> float or Score"


def unscored(name: str, error: Exception) -> Score:
    """A score without a value that says which judge failed, and how."""
    message = f"{name} failed: {type(error).__name__}: {error}"
    return Score(reason=message[:REASON_LIMIT], failed=True)


def _found(spec: str) -> tuple[Judge, str]:
    """The entry of the table that a name refers to, and its argument after the colon."""
    for judge in judges():
        if judge.name == spec and not judge.argument.isupper():
            return judge, ""
    prefix, _, argument = spec.partition(":")
    if spec.startswith(("http://", "https://")):
        prefix, argument = "http", spec
    for judge in TABLE:
        if judge.prefix == prefix and argument.strip():
            argument = argument.strip()
            home = argument.startswith("~")  # behind a colon, no shell replaces it
            return judge, str(Path(argument).expanduser()) if home else argument
    names = [name for judge in judges() for name in (judge.name, judge.prefix)]
    meant = did_you_mean(spec, names) or did_you_mean(prefix, names)
    raise ValueError(f"unknown scorer {spec!r:.200}{meant}; known: {known_scorers()}")


def _named(name: str, opened: Opened, usual: tuple[float, float] = UNIT) -> Scorer:
    return Scorer(
        name,
        opened.score_images,
        opened.unread,
        opened.may_decline,
        opened.usual or usual,
        opened.tried_on,
    )
