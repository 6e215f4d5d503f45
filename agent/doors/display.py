"""How a run is shown in a terminal: a line per event, then a table and the verdict.

Reads events and results only. Untrusted text (prompts, refusals) is shown without control
characters and never as markup.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import TYPE_CHECKING, TextIO

from promptprobe.agent.events import (
    CandidatesProbed,
    CandidatesRendered,
    CandidatesScored,
    CandidatesSelected,
    Event,
    Finished,
    PromptsProposed,
    RoundEnded,
    RoundStarted,
    RunStarted,
    Warned,
)
from promptprobe.tools.records import Prediction, Score, Spend, Trial

TABLE_ROWS = 15
LINE = 2000
"""Maximum characters of a line, of a path for example."""

if TYPE_CHECKING:
    from rich.table import Table

    from promptprobe.agent.doors.replies import ProbeReply, ProbeRow
    from promptprobe.agent.result import OptimizationResult


_RESULTS: ContextVar[TextIO] = ContextVar("results")


@contextmanager
def results_apart() -> Iterator[None]:
    """Keep stdout for results: whatever a caller's judge or a library prints goes to stderr."""
    kept = _RESULTS.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _RESULTS.reset(kept)


def results() -> TextIO:
    """The stream that results go to."""
    return _RESULTS.get(sys.stdout)


def plain(text: str, limit: int = 200) -> str:
    """One printable line: control and direction characters replaced, the rest cut at `limit`."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: 2 * limit])
    return line if len(line) <= limit else line[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def counted(number: int, thing: str) -> str:
    """A number with its noun, such as "1 candidate" or "2 candidates"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def describe(event: Event) -> str:
    """One line for a person or an agent."""
    match event:
        case RunStarted():
            verb = "resuming" if event.resumed else "starting"
            return (
                f"{verb} {event.run_dir} on {event.model}; {event.budget.renders:g} renders' worth "
                f"of denoising, {counted(event.nfe, 'evaluation')}; {event.scorer} selects"
                f"{_graders(event.judges)}; rewrites: {event.source}"
            )
        case RoundStarted():
            expected = "" if event.seconds is None else f", about {event.seconds:.0f} s"
            return f"round {event.round} of {event.of}: {event.schedule}{expected}"
        case PromptsProposed():
            if event.round == 0:
                return "first the brief itself"
            new = ", ".join(f'"{plain(prompt, 80)}"' for prompt in event.accepted) or "none"
            refused = f"; {len(event.refused)} refused" if event.refused else ""
            return f"{counted(len(event.prompts), 'prompt')}, new: {new}{refused}"
        case CandidatesProbed():
            return f"looked at {event.done} of {event.of}"
        case CandidatesSelected():
            return f"{len(event.candidates)} go{'es' if len(event.candidates) == 1 else ''} on"
        case CandidatesRendered():
            return f"rendered {event.done} of {event.of}"
        case CandidatesScored():
            return f"scored {len(event.trials)}"
        case RoundEnded():
            prompt = plain(event.best.candidate.prompt, 80)
            return f'round {event.round}: best {value(event.best.score)} "{prompt}"'
        case Warned():
            return f"note: {plain(event.message, 500)}"
        case Finished():
            return f"stopped: {event.stop_reason}"


def _graders(judges: Sequence[str]) -> str:
    """A clause about the judges that only grade, if any."""
    return f", and {' and '.join(judges)} only grade{'s' * (len(judges) == 1)}" * bool(judges)


class Meter:
    """How far a run is: the share of its denoiser evaluations that are spent."""

    def __init__(self) -> None:
        self.done = 0
        self.total = 1

    def update(self, event: Event) -> None:
        """Take in one event."""
        if isinstance(event, RunStarted):
            self.total = event.nfe
        self.done = min(event.spent.nfe, self.total)
        if isinstance(event, Finished) and event.stop_reason != "cancelled":
            self.done = self.total


def value(score: Score | None) -> str:
    """A score with two decimals, or why there is none."""
    if score is None:
        return "-"
    return f"{score.value:.2f}" if score.value is not None else f"none ({plain(score.reason, 60)})"


def _prediction(prediction: Prediction | None) -> str:
    if prediction is None:
        return "-"
    return f"{prediction.score:.2f}" + ("*" if prediction.basis == "preview" else "")


def _rank(trial: Trial) -> float:
    return float("-inf") if trial.value is None else trial.value


def table(result: OptimizationResult) -> Table:
    """The rendered trials, best first."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    rendered = [trial for trial in result.trials if trial.image is not None]
    shown = sorted(rendered, key=_rank, reverse=True)[:TABLE_ROWS]
    note = [f"{counted(len(result.trials), 'candidate')} probed, {len(rendered)} rendered"]
    if any(t.prediction and t.prediction.basis == "preview" for t in shown):
        note.append("* an early preview judged by the scorer: uncalibrated")
    out = Table(box=SIMPLE_HEAD, pad_edge=False, caption="; ".join(note), caption_justify="left")
    out.add_column("", width=7)
    out.add_column("prompt", ratio=1, overflow="fold")
    out.add_column("seed", justify="right", no_wrap=True)
    for heading in ("predicted", "score"):
        out.add_column(heading, justify="right", no_wrap=True)
    for judge in result.judges:
        out.add_column(plain(judge, 60), justify="right", overflow="fold")
    for trial in shown:
        which = (trial == result.best, trial == result.initial)
        name = {(True, False): "best", (False, True): "initial", (True, True): "both"}.get(which)
        grades = [value(trial.judged.get(name)) for name in result.judges]
        cells = [_prediction(trial.prediction), value(trial.score), *grades]
        prompt, seed = Text(plain(trial.candidate.prompt)), str(trial.candidate.seed)
        out.add_row(name, prompt, seed, *map(Text, cells))
    return out


def show_result(result: OptimizationResult) -> None:
    """Print table and verdict on stdout."""
    from rich.console import Console

    out = Console(file=results())
    out.print(table(result))
    out.print(verdict(result), markup=False, highlight=False, soft_wrap=True)


def verdict(result: OptimizationResult) -> str:
    """The last lines of a run: best prompt, before and after, spend, where the pictures are."""
    best, initial, spent, counts = result.best, result.initial, result.spent, result.rewrites
    lines = [
        f"\nbest prompt    {plain(best.candidate.prompt, 1000)}",
        f"seed           {best.candidate.seed}",
        f"score          {_change(result, initial.score, best.score)}  "
        f"({plain(result.scorer)}, which selected)",
        *(
            f"judge          "
            f"{_change(result, initial.judged.get(name), best.judged.get(name))}  "
            f"({plain(name)}, which selected nothing)"
            for name in result.judges
        ),
        f"spent          {_spent(spent)}",
        f"rewrites       {counts.offered} offered, {counts.accepted} accepted, "
        f"{counts.refused} refused"
        if counts.offered
        else "rewrites       none",
        f"predictions    {_held(result)}",
        f"stopped        {result.stop_reason}",
        f"best picture   {plain(str(best.image), LINE)}",
        f"all pictures   {plain(str(result.run_dir / 'images'), LINE)}",
        f"report         {plain(str(result.report), LINE)}",
        f"contact sheet  {plain(str(result.contact_sheet), LINE)}",
    ]
    if best.score is not None and best.score.explanation:
        lines.insert(3, f"what it shows  {plain(best.score.explanation, 500)}")
    return "\n".join(lines)


def _change(result: OptimizationResult, initial: Score | None, best: Score | None) -> str:
    """The scores of the initial and the best picture, or of the one that is both."""
    same = result.best.candidate == result.initial.candidate
    return f"{value(best)} from the start" if same else f"{value(initial)} -> {value(best)}"


def _spent(spent: Spend) -> str:
    """What a run cost, including its LLM if one was used."""
    text = f"{counted(spent.nfe, 'denoiser evaluation')}, {spent.seconds:.1f} s"
    if spent.llm_calls:
        text += f", {counted(spent.llm_calls, 'LLM call')}, {counted(spent.tokens, 'token')}"
    return text + (f", ${spent.usd:.4f}" if spent.usd else "")


def _held(result: OptimizationResult) -> str:
    """How predictions compare with scores."""
    trust = result.trust
    if trust.error is None:
        return "none to compare with a score"
    inside = f"; {trust.inside} of {counted(trust.held, 'score')} inside the 90% interval"
    inside *= bool(trust.held)
    return f"{trust.error:.2f} from the score on average{inside}"


def show_probe(reply: ProbeReply) -> None:
    """Print the predictions on stdout, and warnings on stderr."""
    from rich.console import Console

    for warning in reply.warnings:
        Console(stderr=True).print(
            f"note: {plain(warning, 500)}", markup=False, highlight=False, soft_wrap=True
        )
    out = Console(file=results())
    out.print(probe_table(reply))
    if reply.heatmaps is not None:
        line = plain(f"heat maps  {reply.heatmaps}", LINE)
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def probe_table(reply: ProbeReply) -> Table:
    """All candidates, the most promising first."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    spent = reply.spent
    note = [
        f"{reply.steps} of {reply.of} steps on {plain(reply.model)}: "
        f"{spent.nfe} denoiser evaluations, {spent.seconds:.1f} s",
        "next to each word: its chance of being drawn as asked"
        if any(word.drawn is not None for row in reply.candidates for word in row.words)
        else "next to each word: its focus, from 0 (attention spread evenly) to 1 (on one place)",
    ]
    if reply.basis == "preview":
        note.append("predicted: an early preview judged by the scorer, uncalibrated")
    out = Table(
        box=SIMPLE_HEAD, pad_edge=False, caption=Text("\n".join(note)), caption_justify="left"
    )
    several = len({row.prompt for row in reply.candidates}) > 1
    for heading in ("seed", "predicted", "90% interval"):
        out.add_column(heading, justify="right", no_wrap=True)
    for heading in (*["prompt"] * several, "words", "preview"):
        out.add_column(heading, ratio=1, overflow="fold")
    for row in reply.candidates:
        found = "-" if row.predicted is None else f"{row.predicted:.2f}"
        interval = f"{row.low:.2f} to {row.high:.2f}" if row.low is not None else "-"
        cells = [*[plain(row.prompt)] * several, _words(row), _seen(row)]
        out.add_row(str(row.seed), found, interval, *map(Text, cells))
    return out


def _words(row: ProbeRow) -> str:
    """Each word's chance of being drawn as asked or, if none is known, its focus."""
    chances = [(word.word, word.drawn) for word in row.words if word.drawn is not None]
    shown = chances or [(word.word, word.focus) for word in row.words]
    return " ".join(f"{plain(word, 40)}:{value:.2f}" for word, value in shown)


def _seen(row: ProbeRow) -> str:
    """What a preview shows, or why nothing is predicted, and words beyond the token limit."""
    cut = f"not read: {', '.join(row.cut)}" if row.cut else ""
    return plain("; ".join(filter(None, (row.explanation or row.reason, cut))), 300)
