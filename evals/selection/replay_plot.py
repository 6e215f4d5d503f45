"""The plot of a replay: gain against renders' worth, with a panel for each table and their mean.

It needs matplotlib, which comes with promptprobe[plots].
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

COLOURS = {
    "naive": "#777777", "planned": "#0072b2", "adaptive": "#cc79a7", "light": "#d55e00",
    "keep-one": "#e69f00", "psp": "#009e73", "until-content": "#56b4e9",
    "waves": "#000000",
}  # fmt: skip
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""


def save(report: dict[str, Any], folder: Path) -> Path:
    """Write search-SIGNAL.png and return its path."""
    from matplotlib.figure import Figure

    panels = [(setting["table"], setting) for setting in report["settings"]]
    if len(panels) > 1:
        panels.insert(0, (f"mean of {len(panels)}", report["budgets"]))
    across = min(4, len(panels))
    down = math.ceil(len(panels) / across)
    figure = Figure(figsize=(max(6.0, 3.4 * across), 3.4 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    for panel, (title, figures) in zip(axes.flat, panels, strict=False):
        _curves(panel, report["budgets"], figures)
        panel.set_title(title, fontsize=9)
    for panel in list(axes.flat)[len(panels) :]:
        panel.set_axis_off()
    for row in axes:
        row[0].set_ylabel("share of best-of-8's gain")
    for panel in axes[-1]:
        panel.set_xlabel("renders' worth spent")
    axes.flat[0].legend(frameon=False, fontsize=7, loc="lower right")
    path = folder / f"search-{report['signal']}.png"
    figure.savefig(path, dpi=130)
    return path


def _curves(panel: Any, budgets: dict[str, Any], figures: dict[str, Any]) -> None:
    order = sorted(budgets, key=float)
    for name in figures[order[0]]:
        points = [figures[budget][name] for budget in order]
        spent = [point["renders"] for point in points]
        values = [point["gain"]["value"] for point in points]
        style = "--" if name == "naive" else "o-"
        panel.plot(spent, values, style, color=COLOURS[name], label=name, markersize=3)
        if name in ("planned", "adaptive"):
            low, high = ([point["gain"][end] for point in points] for end in ("low", "high"))
            panel.fill_between(spent, low, high, color=COLOURS[name], alpha=0.15, linewidth=0)
    panel.grid(alpha=0.25)
