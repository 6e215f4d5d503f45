"""The page's view of a run, as HTML without scripts or links.

Briefs, prompts and explanations are untrusted text, which the templates escape. Pictures are
embedded, so the page's server hands out no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path

from promptprobe.agent.doors.display import counted
from promptprobe.agent.doors.ui.live import Live, Shown
from promptprobe.agent.doors.ui.unfinished import Unfinished
from promptprobe.agent.report.page import environment
from promptprobe.agent.rewrite.differences import changes
from promptprobe.agent.search.policy import best_of
from promptprobe.tools.pictures.embedded import Embedded, embed
from promptprobe.tools.records import Candidate, Prediction, Trial

CARD, BEST = 256, 640
"""Pixels of a picture's longer side at most."""
TEMPLATES = Path(__file__).parent / "templates"
CSS = TEMPLATES / "style.css"


@dataclass(frozen=True)
class Card:
    """A candidate of the current round."""

    trial: Trial
    picture: Embedded | None
    bar: tuple[float, float, float] | None
    """The ends of the prediction's interval and its score, in percent of a bar's width."""
    state: str
    """One or two words on what became of it; empty if still undecided."""
    picked: bool


def head(model: str) -> str:
    """The HTML above the form."""
    return f'<h1 class="name">promptprobe</h1><p class="name">draws with {escape(model)}</p>'


def body(live: Live, unfinished: Sequence[Unfinished]) -> str:
    """The HTML below the form, with the runs that can be resumed."""
    shown = live.shown
    return (
        environment(TEMPLATES)
        .get_template("live.html.jinja")
        .render(
            live=live,
            shown=shown,
            choice=live.choice,
            prompts=[changes(shown.brief, prompt) for prompt in shown.prompts] if shown else [],
            cards=cards(live, shown) if shown else [],
            best=_best_picture(shown.best, BEST) if shown else None,
            waiting=[(one, *_stands(one)) for one in unfinished],
        )
    )


def report(live: Live) -> str:
    """The report in a sandboxed frame, in which no script can run."""
    if not live.shown or not live.shown.report:
        return ""
    page = escape(live.shown.report)
    return f'<iframe class="report" title="Report" sandbox srcdoc="{page}"></iframe>'


def cards(live: Live, shown: Shown) -> list[Card]:
    """The round's candidates; in the order of the choice if a person is being asked."""
    trials = live.choice.trials if live.choice else tuple(shown.trials.values())
    found = [trial.prediction for trial in trials if trial.prediction]
    ends = [v for p in found for v in (p.low, p.high, p.score) if v is not None]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    return [
        Card(
            trial=trial,
            picture=_picture(path, CARD) if (path := trial.image or trial.preview) else None,
            bar=_bar(trial.prediction, low, high) if trial.prediction else None,
            state=_state(trial, live, shown),
            picked=live.choice is not None and trial.candidate in live.picks,
        )
        for trial in trials
    ]


def _bar(prediction: Prediction, low: float, high: float) -> tuple[float, float, float]:
    score = prediction.score
    ends = (score if end is None else end for end in (prediction.low, prediction.high))
    left, right, at = (100 * (value - low) / (high - low or 1) for value in (*ends, score))
    return left, right, at


def _state(trial: Trial, live: Live, shown: Shown) -> str:
    candidate: Candidate = trial.candidate
    if live.choice:
        return "planned" if candidate in live.choice.planned else ""
    if trial.image:
        return "finished"
    if shown.alive is None:
        return ""
    return "goes on" if candidate in shown.alive else "dropped"


def _stands(one: Unfinished) -> tuple[Embedded | None, str]:
    """The best picture of an unfinished run, and its progress in words."""
    best, drawn = best_of(one.trials), sum(trial.image is not None for trial in one.trials)
    parts = [counted(drawn, "picture"), counted(one.spent.nfe, "denoiser evaluation")]
    if best and best.value is not None:
        parts.insert(0, f"best {best.value:.2f}")
    return _best_picture(best, CARD), ", ".join(parts)


def _best_picture(best: Trial | None, side: int) -> Embedded | None:
    return _picture(best.image, side) if best and best.image else None


@lru_cache(maxsize=256)
def _picture(path: Path, side: int) -> Embedded | None:
    return embed(path, side)
