"""What happened in a run, for its report: prompts, candidates' fates, and the best score over
spend.

Reads only the ledger's records, so that a run of any model and scorer has a report, even one that
was cut off.
"""

from __future__ import annotations

import math
import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from promptprobe.agent.events import Refusal
from promptprobe.agent.ledger import Ledger, ProbedLine, RenderedLine, ScoredLine
from promptprobe.agent.result import OptimizationResult
from promptprobe.agent.rewrite.differences import Change, changes
from promptprobe.agent.run_folder import RunSettings
from promptprobe.tools.records import Budget, Candidate, Generation, Trial, Verdict


@dataclass(frozen=True)
class PromptStory:
    """A prompt and its results."""

    text: str
    round: int
    """The round in which it was first tried."""
    changes: tuple[Change, ...]
    """Differences from the brief."""
    candidates: int
    rendered: int
    predicted: float | None
    """Mean prediction over its candidates."""
    best: float | None
    """The best score of its pictures."""


@dataclass(frozen=True)
class Requirement:
    """The scorer's verdicts on one word of the brief, in two pictures."""

    word: str
    initial: Verdict | None
    best: Verdict | None


@dataclass(frozen=True)
class Spent:
    """A point of the curve of the best score over spend."""

    nfe: int
    seconds: float
    best: float


def prompt_stories(result: OptimizationResult) -> list[PromptStory]:
    """Every prompt that reached the probe, in the order of its first appearance."""
    groups: dict[str, list[Trial]] = defaultdict(list)
    for trial in result.trials:
        groups[trial.candidate.prompt].append(trial)
    return [
        PromptStory(
            text=text,
            round=trials[0].round,
            changes=changes(result.brief, text),
            candidates=len(trials),
            rendered=sum(trial.image is not None for trial in trials),
            predicted=_mean([t.prediction.score for t in trials if t.prediction]),
            best=max((t.value for t in trials if t.value is not None), default=None),
        )
        for text, trials in groups.items()
    ]


def refusals(ledger: Ledger) -> list[tuple[int, Refusal]]:
    """Rewrites that never reached the probe, with the round in which they were offered."""
    return [(line.round, refusal) for line in ledger.proposed for refusal in line.refused]


def requirements(result: OptimizationResult) -> list[Requirement]:
    """The scorer's verdicts on the brief's words, in the initial and in the best picture."""
    before = result.initial.score.words if result.initial.score else ()
    after = result.best.score.words if result.best.score else ()
    if before and after and [v.word for v in before] != [v.word for v in after]:
        before = ()
    longest = max(before, after, key=len)
    return [
        Requirement(verdict.word, _at(before, place), _at(after, place))
        for place, verdict in enumerate(longest)
    ]


def spend_curve(ledger: Ledger) -> list[Spent]:
    """The best score so far after each scored picture, over the spend by then."""
    points: list[Spent] = []
    nfe, best = 0, None
    for line in ledger.lines:
        if isinstance(line, ProbedLine):
            nfe += line.probed.nfe
        elif isinstance(line, RenderedLine):
            nfe += line.rendered.nfe
        elif isinstance(line, ScoredLine) and line.score.value is not None:
            best = line.score.value if best is None else max(best, line.score.value)
            points.append(Spent(nfe, line.at, best))
    return points


def fates(trials: Sequence[Trial], ledger: Ledger) -> dict[Candidate, str]:
    """A sentence on each candidate: how far it got, and why."""
    bars: dict[tuple[int, int], float] = {}
    for trial in trials:
        went_on = trial.looks if trial.image is not None else trial.looks[:-1]
        for look in went_on:
            if look.prediction is not None:
                place = trial.round, look.step
                bars[place] = min(bars.get(place, math.inf), look.prediction.score)
    return {trial.candidate: _fate(trial, bars, ledger) for trial in trials}


def _fate(trial: Trial, bars: Mapping[tuple[int, int], float], ledger: Ledger) -> str:
    if trial.score is not None:
        if trial.score.value is None:
            return f"Rendered but left unscored: {trial.score.reason or 'no reason is given'}."
        return "Rendered and scored."
    if trial.image is not None:
        return "Rendered; the run ended before it was scored."
    if not trial.looks:
        return "Proposed; the run ended before a look at it."
    last = trial.looks[-1]
    dropped = f"Dropped in round {trial.round} after {last.step} of its steps"
    choice = ledger.chosen(trial.round, last.step)
    if choice and choice.candidates is not None and trial.candidate not in choice.candidates:
        return f"{dropped}: a person let others go on."
    if last.prediction is None:
        return f"{dropped}: nothing predicted its score. {last.reason}".strip()
    found, bar = last.prediction.score, bars.get((trial.round, last.step))
    if bar is None:
        return f"Left after {last.step} steps: the run ended before the next one."
    if found < bar:
        return f"{dropped}: predicted {found:.2f}, but the lowest that went on had {bar:.2f}."
    return f"{dropped}: predicted {found:.2f}; its place went to another prompt or to exploration."


def command(settings: RunSettings) -> str | None:
    """The command that repeats the run; None if a model or scorer was a Python object."""
    if settings.objects:
        return None
    words = ["promptprobe", "optimize", settings.brief, "--model", settings.model]
    for name in ("scorer", "probe", "llm", "target"):
        if (given := getattr(settings, name)) is not None:
            words += [f"--{name}", str(given)]
    for judge in settings.judge:
        words += ["--judge", judge]
    for prompt in settings.prompts or ():
        words += ["--prompt", prompt]
    for kept in settings.keep:
        words += ["--keep", kept]
    words += ["--rewrite", settings.rewrite, "--seed", str(settings.seed)]
    words += _budget(settings.budget)
    words += _pictures(settings.generation)
    return shlex.join(words)


def _budget(budget: Budget) -> Iterator[str]:
    yield from ("--budget", f"{budget.renders:g}")
    for name in ("prompts", "seeds", "keep"):
        if (given := getattr(budget, name)) is not None:
            yield from (f"--{name}", str(given))
    for name in ("seconds", "llm_calls", "tokens", "usd"):
        if (given := getattr(budget, name)) is not None:
            yield from (f"--max-{name.replace('_', '-')}", f"{given:g}")


def _pictures(generation: Generation) -> Iterator[str]:
    for name, given in generation.model_dump(exclude_none=True).items():
        option = f"--{name.replace('_', '-')}"
        if given is True:
            yield option
        elif isinstance(given, dict):
            yield from (part for one in given.items() for part in (option, "{}={}".format(*one)))
        elif given:
            parts = given if isinstance(given, tuple) else (given,)
            yield from (part for one in parts for part in (option, str(one)))


def _at(verdicts: Sequence[Verdict], place: int) -> Verdict | None:
    return verdicts[place] if place < len(verdicts) else None


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
