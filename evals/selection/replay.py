"""Replays selection policies on stored tables: the share of best-of-8's gain that each recovers.

Every policy is fitted on half of the prompts and judged on the other half, both ways. A gain is
sum(chosen - mean) / sum(best of 8 - mean) over prompts; several tables or scorers count equally.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from promptprobe.evals.selection.policies import POLICIES, Outcome
from promptprobe.evals.selection.replay_table import FEWEST, Table
from promptprobe.evals.statistics import Estimate, Floats, Rows, best_of_n, bootstrap

PARTS = (0.95, 1.0)
"""Shares of the reference gain whose costs are reported."""
REFERENCE = 8
"""Gains are shares of what the best of `REFERENCE` renders gains over a random one."""


@dataclass(frozen=True)
class Replayed:
    """A policy on one table at one budget: both halves combined, prompts in the table's order."""

    best: Floats
    renders: float
    schedules: tuple[str, str]


def replay(table: Table, policy: str, renders: float) -> Replayed:
    """Fit on the even prompts and judge on the odd ones, then the other way round."""
    prompts = np.arange(len(table.final))
    best, outcomes = np.empty(len(prompts)), []
    for half in (0, 1):
        fit, judged = prompts[prompts % 2 == half], prompts[prompts % 2 != half]
        outcome: Outcome = POLICIES[policy](table.rows(fit), table.rows(judged), renders)
        best[judged] = outcome.best
        outcomes.append(outcome)
    taken = float(np.mean([outcome.renders for outcome in outcomes]))
    return Replayed(best, taken, (outcomes[0].schedule, outcomes[1].schedule))


def check(tables: Sequence[Table], budgets: Sequence[float]) -> None:
    """Raise the ValueErrors of `evaluate`."""
    lengths = {len(table.final) for table in tables}
    if len(lengths) != 1:
        raise ValueError(
            f"expected tables with equally many prompts, got {sorted(lengths)}: replay them "
            "separately"
        )
    if min(lengths) < FEWEST:
        raise ValueError(f"expected at least {FEWEST} prompts, 2 in each half, got {min(lengths)}")
    seeds = min(table.final.shape[1] for table in tables)
    if seeds < REFERENCE:
        raise ValueError(
            f"gains are shares of best-of-{REFERENCE}'s: expected {REFERENCE} seeds or more for "
            f"each prompt, got {seeds}; the same promptprobe train with --seeds {REFERENCE} adds "
            "them"
        )
    if beyond := [budget for budget in budgets if not 1 <= budget <= seeds]:
        raise ValueError(
            f"--budget: expected 1 to {seeds} renders for tables of {seeds} seeds, got "
            f"{beyond[0]:g}"
        )


def evaluate(
    tables: Sequence[Table], policies: Sequence[str], budgets: Sequence[float]
) -> dict[str, Any]:
    """Report: `policies` at the first budget; `budgets`, all of them; `settings`, table by table.

    ValueError: there are too few prompts to halve, tables differ in length, or a table has too few
    seeds for a budget.
    """
    check(tables, budgets)
    report: dict[str, Any] = {}
    names = list(dict.fromkeys(["naive", *policies]))
    per_table: list[dict[str, Any]] = [{"table": table.name} for table in tables]
    for budget in budgets:
        runs = {name: [replay(table, name, budget) for table in tables] for name in names}
        key = f"{budget:g}"
        report[key] = {name: _figures(tables, runs[name], runs["naive"]) for name in names}
        for at, table in enumerate(tables):
            per_table[at][key] = {
                name: {
                    **_figures([table], [runs[name][at]], [runs["naive"][at]]),
                    "schedules": list(runs[name][at].schedules),
                }
                for name in names
            }
    first = f"{budgets[0]:g}"
    return {
        "tables": [table.name for table in tables],
        "prompts": len(tables[0].final),
        "seeds": min(table.final.shape[1] for table in tables),
        "reference": f"gain of the best of {REFERENCE} full renders over a random one",
        "budget": budgets[0],
        "policies": (per_table[0] if len(tables) == 1 else report)[first],
        "budgets": report,
        "cost_of": {f"{part:.0%}": _costs(report, names, part) for part in PARTS},
        "settings": per_table,
    }


def _costs(report: dict[str, Any], names: Sequence[str], part: float) -> dict[str, float | None]:
    """Renders' worth at which a policy's gain first reaches a part of best-of-8's, interpolated
    between budgets; None if no budget reaches it, or the lowest already does."""
    found: dict[str, float | None] = {}
    for name in names:
        curve = sorted((of[name]["renders"], of[name]["gain"]["value"]) for of in report.values())
        found[name] = next(
            (
                round(x + (part - gain) / (more - gain) * (y - x), 2)
                for (x, gain), (y, more) in pairwise(curve)
                if gain < part <= more
            ),
            None,
        )
    return found


def _figures(
    tables: Sequence[Table], runs: Sequence[Replayed], naive: Sequence[Replayed]
) -> dict[str, Any]:
    """Gain, its difference from naive on the same prompts, and mean cost in renders' worth."""
    means = [table.final.mean(1) for table in tables]
    gains = [run.best - mean for run, mean in zip(runs, means, strict=True)]
    extra = [run.best - rival.best for run, rival in zip(runs, naive, strict=True)]
    return {
        "gain": _mean_share(tables, gains).json(),
        "minus_naive": _mean_share(tables, extra).json(),
        "renders": round(float(np.mean([run.renders for run in runs])), 3),
    }


def _mean_share(tables: Sequence[Table], parts: Sequence[Floats]) -> Estimate:
    """Mean over tables of sum(part) / sum(headroom); the same prompts are resampled in all."""
    wholes = [best_of_n(table.final, REFERENCE) - table.final.mean(1) for table in tables]

    def of(rows: Rows) -> Floats:
        shares = [
            part[rows].sum(1) / np.maximum(whole[rows].sum(1), 1e-12)
            for part, whole in zip(parts, wholes, strict=True)
        ]
        mean: Floats = np.mean(shares, axis=0)
        return mean

    return bootstrap(of, len(wholes[0]))


def lines(report: dict[str, Any]) -> Iterator[str]:
    """Markdown: gain by policy and budget, and the planned schedules."""
    budgets = report["budgets"]
    yield (
        f"share of the gain of best-of-{REFERENCE}, by renders' worth; {report['prompts']} prompts "
        f"x {report['seeds']} seeds, mean of {len(report['tables'])}: "
        f"{', '.join(report['tables'])}; "
        "fitted on half of the prompts, judged on the other, both ways; 95% intervals over prompts"
    )
    yield ""
    yield "| policy | " + " | ".join(budgets) + " |"
    yield "|---" * (1 + len(budgets)) + "|"
    for name in next(iter(budgets.values())):
        cells = [_cell(budgets[budget][name]) for budget in budgets]
        yield f"| {name} | " + " | ".join(cells) + " |"
    for part, costs in report["cost_of"].items():
        reached = (f"{name} {cost}" for name, cost in costs.items() if cost is not None)
        yield f"- {part} of it is reached at, renders' worth: {', '.join(reached) or 'none'}"
    for setting in report["settings"]:
        for budget in budgets:
            if "planned" in setting[budget]:
                first = setting[budget]["planned"]["schedules"][0]
                yield f"- planned, {setting['table']}, {budget}: {first}"


def _cell(figures: dict[str, Any]) -> str:
    gain, more = figures["gain"], figures["minus_naive"]
    value, low, high = ("?" if gain[end] is None else f"{gain[end]:.3f}" for end in gain)
    edge = "" if more["value"] in (None, 0) else f", {more['value']:+.3f} on naive"
    return f"{value} [{low}, {high}]{edge}"
