"""The report of a run: one HTML file without scripts or network requests.

Prompts, explanations, refusals and warnings are untrusted text. Jinja escapes all of it, control
and direction characters are made visible, and the page's content security policy forbids scripts,
forms and network access, so that even a hole in the escaping would be harmless.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from promptprobe.agent.grading.finished_runs import with_grades
from promptprobe.agent.ledger import Ledger
from promptprobe.agent.report import plots, story
from promptprobe.agent.result import OptimizationResult, read_result
from promptprobe.agent.run_folder import own_file, read
from promptprobe.agent.search.policy import predicted
from promptprobe.probe.files import replacing
from promptprobe.tools.pictures.attention import SUFFIX, Attention, attention_of
from promptprobe.tools.pictures.embedded import Embedded, embed, embed_image
from promptprobe.tools.records import Trial, Word

HERO, CARD, MAP = 768, 288, 112
"""Pixels of the longer side of the two compared pictures, of all others, and of a heat map."""
MOST_CARDS, MOST_MAPS, MOST_PROMPTS, MOST_REFUSALS = 240, 16, 120, 60
"""Limits of what one page shows; the rest is counted, and is in the ledger."""
UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Card:
    """A candidate as the page shows it."""

    trial: Trial
    picture: Embedded | None
    maps: Sequence[tuple[Word, Embedded]]
    """Each word's attention over the last preview; empty if the run kept none."""
    fate: str
    is_best: bool
    is_initial: bool


@dataclass(frozen=True)
class Point:
    """A candidate with a prediction and a score, in SVG pixels."""

    x: float
    y: float
    low: float | None
    high: float | None
    label: str
    is_best: bool


def save_report(result: OptimizationResult) -> Path:
    """Write the report into the folder of a run atomically, and return its path.

    Raises:
        OSError: the folder cannot be written.
    """
    return save_page(result.report, run_page(result))


def save_page(path: Path, page: str) -> Path:
    """Write a page. Raises OSError if it cannot be written."""
    with replacing(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def report_of(run_dir: Path) -> Path:
    """Write the report of a run again from its folder.

    Raises:
        ValueError: this is not a run folder, it is damaged, or nothing has been rendered in it.
        OSError: the folder cannot be written.
    """
    return save_report(read_result(run_dir))


def run_page(result: OptimizationResult) -> str:
    """The page of one run, including later grades of its pictures."""
    result = with_grades(result)
    settings, ledger = read(result.run_dir), Ledger(result.run_dir)
    cards, peak = cards_of(result, ledger)
    return render(
        "run.html.jinja",
        peak=peak,
        looked=[card for card in cards if card.maps and (card.is_initial or card.is_best)],
        result=result,
        settings=settings,
        best=picture_of(result.best, result.run_dir, HERO),
        initial=picture_of(result.initial, result.run_dir, HERO),
        rendered=sum(trial.image is not None for trial in result.trials),
        requirements=story.requirements(result),
        prompts=story.prompt_stories(result),
        refusals=story.refusals(ledger),
        cards=cards[:MOST_CARDS],
        left_out=len(cards[MOST_CARDS:]),
        most_prompts=MOST_PROMPTS,
        most_refusals=MOST_REFUSALS,
        scatter=scatter(result),
        curve=curve(story.spend_curve(ledger), result.spent.nfe),
        command=story.command(settings),
        snippet=result.snippet(),
    )


def cards_of(result: OptimizationResult, ledger: Ledger) -> tuple[list[Card], float]:
    """All candidates, and the attention value at which the colours of all heat maps end.

    Candidates with a picture come first, by score, then the dropped ones, by prediction.
    """
    shown = list(result.top(len(result.trials)))
    dropped = [trial for trial in result.trials if trial.image is None]
    dropped.sort(key=predicted, reverse=True)
    fates = story.fates(result.trials, ledger)
    kept = [_kept(trial, result.run_dir) for trial in [*shown, *dropped][:MOST_MAPS]]
    peak = max((one.peak for one in kept if one), default=0.0)
    cards = [
        Card(
            trial=trial,
            picture=picture_of(trial, result.run_dir, CARD) if place < MOST_CARDS else None,
            maps=word_maps(trial, result.run_dir, kept[place], peak) if place < len(kept) else (),
            fate=fates[trial.candidate],
            is_best=trial.candidate == result.best.candidate,
            is_initial=trial.candidate == result.initial.candidate,
        )
        for place, trial in enumerate([*shown, *dropped])
    ]
    return cards, peak


def word_maps(
    trial: Trial, run_dir: Path, kept: Attention | None, peak: float
) -> list[tuple[Word, Embedded]]:
    """Heat maps of a candidate's words, with colours scaled to the peak."""
    if kept is None or not trial.preview or not trial.prediction:
        return []
    try:
        with Image.open(own_file(trial.preview, run_dir)) as opened:
            preview = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return []
    preview.thumbnail((MAP, MAP))
    drawn = [embed_image(one, MAP, lossy=True) for one in kept.over(preview, peak)]
    return list(zip(trial.prediction.words, drawn, strict=False))


def _kept(trial: Trial, run_dir: Path) -> Attention | None:
    """The attention of the last look; None if it is not inside the run's folder."""
    if not trial.preview:
        return None
    try:
        own_file(trial.preview.with_suffix(SUFFIX), run_dir)
    except (OSError, ValueError):
        return None
    return attention_of(trial.preview)


def scatter(result: OptimizationResult) -> dict[str, Any] | None:
    """Predicted against actual scores; None if no trial has both."""
    known = [
        (trial, trial.prediction, actual)
        for trial in result.trials
        if trial.prediction is not None and (actual := trial.value) is not None
    ]
    if not known:
        return None
    values = [
        v for _, p, actual in known for v in (p.score, p.low, p.high, actual) if v is not None
    ]
    x, y = plots.across(values), plots.upward(values)
    return {
        "x": x,
        "y": y,
        "points": [
            Point(
                x(p.score),
                y(actual),
                None if p.low is None else x(p.low),
                None if p.high is None else x(p.high),
                f"predicted {p.score:.2f}, scored {actual:.2f}: {trial.candidate.prompt}",
                trial.candidate == result.best.candidate,
            )
            for trial, p, actual in known
        ],
    }


def curve(points: list[story.Spent], end: int) -> dict[str, Any] | None:
    """The best score so far over denoiser evaluations; None if nothing has a score."""
    if not points:
        return None
    x, y = plots.across([0, end]), plots.upward([point.best for point in points])
    return {
        "x": x,
        "y": y,
        "path": plots.steps([(p.nfe, p.best) for p in points], x, y, end),
        "points": [(x(p.nfe), y(p.best), p) for p in points],
    }


def render(template: str, **content: Any) -> str:
    """Render a template with the style sheet and a policy that allows no other."""
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        environment(TEMPLATES)
        .get_template(template)
        .render(
            style=Markup(style),  # noqa: S704, a file of this package
            style_hash=f"sha256-{digest}",
            plot=plots,
            **content,
        )
    )


@cache
def environment(folder: Path) -> Environment:
    """The templates of a folder, which escape all text and make it readable."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_readable,
    )


def _readable(found: object) -> object:
    """Replace characters that a page cannot contain or that change the text direction."""
    return UNSAFE.sub("\N{REPLACEMENT CHARACTER}", found) if type(found) is str else found


def picture_of(trial: Trial, run_dir: Path, side: int) -> Embedded | None:
    """The picture of a trial or else its preview; None if it is not inside the run's folder."""
    if not (path := trial.image or trial.preview):
        return None
    try:
        return embed(own_file(path, run_dir), side)
    except ValueError:
        return None
