"""The plots of an eval of fidelity: predicted against actual, rank over steps, headroom by cost.

They need matplotlib, which comes with promptprobe[plots].
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from promptprobe.evals.fidelity.experiment import PREVIEW, Experiment, coarse_name, predictions_at

COLOURS = {"probe": "#0072b2", PREVIEW: "#e69f00", "coarse": "#009e73", "naive": "#777777"}
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""
WIDE, HIGH = 9.0, 3.6
JITTER = 0.012
"""As a share of the scores' range: scores are often shares of a few requirements, so that without
jitter many points would coincide."""


def save(drawn: Experiment, report: dict[str, Any], folder: Path) -> list[Path]:
    """Write the three plots as PNG; returns their paths."""
    from matplotlib.figure import Figure

    paths = []
    for name, draw in (("predicted", _predicted), ("steps", _steps), ("headroom", _headroom)):
        figure = Figure(figsize=(WIDE, HIGH), layout="constrained")
        draw(figure, drawn, report)
        paths.append(folder / f"{Path(report['model']).name}-{name}.png")
        figure.savefig(paths[-1], dpi=160)
    return paths


def _predicted(figure: Any, drawn: Experiment, report: dict[str, Any]) -> None:
    found = predictions_at(drawn.test, drawn.step)
    dice = np.random.default_rng(0)
    panels = np.atleast_1d(figure.subplots(1, len(found), sharex=True, sharey=True))
    for panel, name in zip(panels, sorted(found), strict=True):
        actual = drawn.test.scores.ravel()
        guesses = found[name].ravel()
        wobble = dice.normal(0, JITTER * np.ptp(actual), (2, len(actual)))
        ends = [actual.min(), actual.max()]
        panel.plot(ends, ends, color="#bbbbbb", linewidth=1)
        panel.scatter(
            guesses + wobble[0], actual + wobble[1], s=9, alpha=0.35, linewidths=0,
            color=COLOURS[name],
        )  # fmt: skip
        pcc = report["over_steps"][str(drawn.step)][name]["pcc"]
        panel.set(
            title=f"{name} after {drawn.step} of {report['of']} steps: PCC {_figure(pcc)}",
            xlabel="predicted score",
        )
    panels[0].set_ylabel("score of the finished picture")


def _steps(figure: Any, drawn: Experiment, report: dict[str, Any]) -> None:
    left, right = figure.subplots(1, 2, sharex=True)
    for panel, measure, title in (
        (left, "pairwise", "rank within a prompt (pairwise accuracy)"),
        (right, "pcc", "over all pictures (PCC)"),
    ):
        for name in ("probe", PREVIEW):
            table = {
                int(k): row[name][measure]
                for k, row in report["over_steps"].items()
                if name in row and row[name][measure]["value"] is not None
            }
            steps, values, low, high = _band(table)
            panel.plot(steps, values, "o-", color=COLOURS[name], label=name, markersize=4)
            panel.fill_between(steps, low, high, color=COLOURS[name], alpha=0.15, linewidth=0)
        coarse = {k: report["baselines"][coarse_name(k)] for k in drawn.coarse}
        part = "within" if measure == "pairwise" else "pooled"
        steps, values, _, _ = _band({k: row[part][measure] for k, row in coarse.items()})
        panel.plot(
            steps, values, "s", color=COLOURS["coarse"], markersize=5,
            label="coarse render in so many steps",
        )  # fmt: skip
        panel.set(title=title, xlabel=f"steps made, of {report['of']}")
        panel.grid(alpha=0.25)
    right.legend(frameon=False, fontsize=8, loc="lower right")


def _headroom(figure: Any, drawn: Experiment, report: dict[str, Any]) -> None:
    seeds, full = report["n_seeds"], drawn.timing.full()
    panels = figure.subplots(1, 2, sharey=True)
    for panel, unit, title, whole in (
        (panels[0], "nfe", "denoiser evaluations", full.nfe * seeds),
        (panels[1], "seconds", "seconds", full.seconds * seeds),
    ):
        for name, points in report["headroom"].items():
            key = next(key for key in COLOURS if name.startswith(key))
            shares = [point[unit] / whole for point in points]
            values = [point["recovered"]["value"] for point in points]
            style = "--" if key == "naive" else "o-"
            panel.plot(shares, values, style, color=COLOURS[key], label=name, markersize=4)
        panel.set(xlabel=f"{title}, as a share of finishing all {seeds} seeds", xlim=(0, 1.02))
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("headroom recovered")
    panels[0].legend(frameon=False, fontsize=8, loc="lower right")


def _band(table: dict[int, dict[str, Any]]) -> tuple[list[Any], ...]:
    """Steps, values, and both ends of their intervals."""
    steps = sorted(table)
    return steps, *([table[k][end] for k in steps] for end in ("value", "low", "high"))


def _figure(estimate: dict[str, Any]) -> str:
    return "?" if estimate["value"] is None else f"{estimate['value']:.2f}"
