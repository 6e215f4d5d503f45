"""What is assumed of previews of a model that nobody has measured: little, and where it is from."""

from __future__ import annotations

from collections.abc import Sequence

from promptprobe.agent.search.schedule import Signal, from_spearman

PREVIEW_RANKS = (
    0.01, 0.02, 0.07, 0.18, 0.25, 0.32, 0.37, 0.42, 0.46, 0.50,
    0.55, 0.59, 0.63, 0.67, 0.71, 0.75, 0.79, 0.86, 0.93,
)  # fmt: skip
"""Spearman within a prompt of the x0 preview's score with the final one, after 5%, 10%, ... 95% of
the steps: the lowest of six settings, FLUX.1-dev and SDXL under ImageReward, PickScore and HPSv2,
100 prompts x 200 seeds x 20 steps each, from the tables published with TTSnap (arXiv 2511.22242).
Conservative: at half of the path the six lie between .50 and .80."""


def preview_prior(total: int, steps: Sequence[int] | None = None) -> Signal:
    """Looks at previews after these steps of `total`, or after every step.

    ValueError: as for a signal, if the steps are not ascending and below `total`.
    """
    chosen = tuple(steps) if steps is not None else tuple(range(1, total))
    return Signal(
        total=total,
        steps=chosen,
        correlations=tuple(from_spearman(_rank(step / total)) for step in chosen),
    )


def _rank(share: float) -> float:
    """Linear between the points of the table; 0 at the start, 1 at the end."""
    ranks = (0.0, *PREVIEW_RANKS, 1.0)
    place = min(max(share, 0.0), 1.0) * (len(ranks) - 1)
    low = min(int(place), len(ranks) - 2)
    return ranks[low] + (place - low) * (ranks[low + 1] - ranks[low])
