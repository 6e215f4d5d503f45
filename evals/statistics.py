"""How every figure is computed from tables of scores.

Tables are float64 [prompt, seed]. Rows are scenes: intervals are 95% percentile intervals of a
bootstrap over rows, and a comparison resamples both sides together, so it is paired.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
RESAMPLES = 1000
TIE_BREAKS = 64


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval; None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None

    def json(self) -> dict[str, float | None]:
        """As a dictionary, rounded to four digits."""
        return {end: None if x is None else round(x, 4) for end, x in vars(self).items()}


def bootstrap(statistic: Callable[[Rows], Floats], rows: int) -> Estimate:
    """A statistic of all rows, with the interval from resampled rows.

    Args:
        statistic: maps row numbers [resample, row] to values [resample]; nan where undefined (no
            untied pair, a single class), and these resamples are left out.
        rows: number of rows; fewer than two have no interval.
    """
    value = float(statistic(np.arange(rows)[None])[0])
    if not np.isfinite(value):
        return Estimate(None, None, None)
    if rows < 2:
        return Estimate(value, None, None)
    draws = statistic(np.random.default_rng(0).integers(0, rows, (RESAMPLES, rows)))
    low, high = np.nanpercentile(draws, (2.5, 97.5))
    return Estimate(value, float(low), float(high))


def mean(values: Floats) -> Estimate:
    """Mean of one value for each row; rows with nan are left out."""
    return ratio(np.nan_to_num(values), np.isfinite(values).astype(float))


def share(hits: Floats) -> Estimate:
    """Mean over rows of each row's share of hits, in [0, 1].

    If all rows are 0 or all are 1, the bootstrap has no width; the interval is then the exact
    (Clopper-Pearson) one of a binomial with rows as trials.
    """
    found = mean(hits)
    if len(hits) and found.value in (0.0, 1.0):
        exact = stats.binomtest(round(found.value * len(hits)), len(hits)).proportion_ci()
        return Estimate(found.value, float(exact.low), float(exact.high))
    return found


def ratio(parts: Floats, whole: Floats) -> Estimate:
    """Sum of `parts` divided by sum of `whole`, one of each a row; never a mean of ratios."""

    def of(rows: Rows) -> Floats:
        total = whole[rows].sum(1)
        return np.where(total > 0, parts[rows].sum(1) / np.where(total > 0, total, 1), np.nan)

    return bootstrap(of, len(whole))


# -- within a prompt ---------------------------------------------------------------------------


def pair_credit(predictions: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """Per prompt: pairs guessed right (a tied guess counts half), and pairs whose scores differ."""
    first, second = np.triu_indices(scores.shape[1], 1)
    actual = np.sign(scores[:, first] - scores[:, second])
    guess = np.sign(predictions[:, first] - predictions[:, second])
    right = np.where(actual == 0, 0.0, (1 + actual * guess) / 2)
    return right.sum(1), (actual != 0).sum(1).astype(float)


def pairwise(predictions: Floats, scores: Floats, other: Floats | None = None) -> Estimate:
    """Accuracy over pairs of one prompt's seeds whose scores differ, minus `other`'s if given."""
    right, untied = pair_credit(predictions, scores)
    return ratio(right if other is None else right - pair_credit(other, scores)[0], untied)


def rank_correlations(predictions: Floats, scores: Floats) -> Floats:
    """Spearman of each prompt's seeds, [prompt]: nan if all scores tie, 0 for a constant guess."""
    blank = (np.ptp(predictions, axis=1) == 0) & (np.ptp(scores, axis=1) > 0)
    return np.where(blank, 0.0, spearman(predictions, scores))


def rank_ceilings(scores: Floats) -> Floats:
    """The best Spearman that a guess without ties can reach against tied scores, [prompt]."""
    return rank_correlations(stats.rankdata(scores, method="ordinal", axis=1).astype(float), scores)


def within(predictions: Floats, scores: Floats) -> dict[str, Any]:
    """Pairwise accuracy, Spearman with its ceiling, and how many prompts were constant."""
    return {
        "pairwise": pairwise(predictions, scores).json(),
        "srcc": mean(rank_correlations(predictions, scores)).json(),
        "srcc_ceiling": mean(rank_ceilings(scores)).json(),
        "excluded": int((np.ptp(scores, axis=1) == 0).sum()),
    }


# -- pooled ------------------------------------------------------------------------------------


def auc(predictions: Floats, positive: NDArray[np.bool_]) -> Floats:
    """Chance that a positive is ranked above a negative, ties half; nan with a single class.

    Like the other metrics here, it works on vectors along the last axis.
    """
    positives = positive.sum(-1)
    pairs = positives * (positive.shape[-1] - positives)
    ranks = (stats.rankdata(predictions, axis=-1) * positive).sum(-1)
    above = ranks - positives * (positives + 1) / 2
    return np.where(pairs > 0, above / np.maximum(pairs, 1), np.nan)


def pearson(a: Floats, b: Floats) -> Floats:
    """Correlation; nan if either is constant."""
    constant = (np.ptp(a, axis=-1) == 0) | (np.ptp(b, axis=-1) == 0)
    a, b = (x - x.mean(-1, keepdims=True) for x in (a, b))
    spread = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return np.where(constant, np.nan, (a * b).sum(-1) / np.where(constant, 1, spread))


def spearman(a: Floats, b: Floats) -> Floats:
    """Rank correlation; nan if either is constant."""
    return pearson(*(stats.rankdata(x, axis=-1) for x in (a, b)))


def together(table: Floats, resamples: Rows) -> Floats:
    """All prompts and seeds of each resample as one vector, [resample, candidate]."""
    return table[resamples].reshape(len(resamples), -1)


def over_all(
    metric: Callable[[Floats, Floats], Floats], predictions: Floats, scores: Floats
) -> Estimate:
    """A metric over all prompts and seeds together, resampled by prompt."""

    def of(resamples: Rows) -> Floats:
        return metric(together(predictions, resamples), together(scores, resamples))

    return bootstrap(of, len(scores))


def pooled(predictions: Floats, scores: Floats, threshold: float) -> dict[str, Any]:
    """PCC, Spearman and AUC over all candidates; positives score at or above `threshold`."""

    def separates(guess: Floats, actual: Floats) -> Floats:
        return auc(guess, actual >= threshold)

    metrics = {"pcc": pearson, "srcc": spearman, "auc": separates}
    return {name: over_all(of, predictions, scores).json() for name, of in metrics.items()}


def ceiling(scores: Floats) -> Estimate:
    """The best Spearman over all candidates that guesses without ties can reach."""
    return bootstrap(lambda resamples: rank_ceilings(together(scores, resamples)), len(scores))


def pcc_gain(predictions: Floats, other: Floats, scores: Floats) -> Estimate:
    """PCC of one predictor over all candidates minus another's, paired; 0 if that is constant."""

    def of(resamples: Rows) -> Floats:
        truth = together(scores, resamples)
        mine, theirs = (pearson(together(x, resamples), truth) for x in (predictions, other))
        return mine - np.nan_to_num(theirs)

    return bootstrap(of, len(scores))


# -- selection ---------------------------------------------------------------------------------


def headroom(selected: Floats, scores: Floats, other: Floats | None = None) -> Estimate:
    """Share of best-of-all headroom recovered, sum(selected - mean) / sum(best - mean).

    With another rule's choices, minus the share that those recover, paired.
    """
    mean_score = scores.mean(1)
    return ratio(selected - (mean_score if other is None else other), scores.max(1) - mean_score)


def best_of_kept(predictions: Floats, scores: Floats, keep: int) -> Floats:
    """Best score among the `keep` best-guessed seeds, [prompt]; averaged over random tie-breaks."""
    rng = np.random.default_rng(0)
    found = np.zeros(len(scores))
    for _ in range(TIE_BREAKS):
        order = np.lexsort((rng.random(scores.shape), -predictions))
        found += np.take_along_axis(scores, order[:, :keep], 1).max(1)
    return found / TIE_BREAKS


def best_of_n(selector: Floats, n: float, value: Floats | None = None) -> Floats:
    """Expected `value` of the seed that `selector` ranks best among n drawn from the row, [prompt].

    Exact over all subsets (n drawn without replacement); tied seeds share equally; fractional n is
    interpolated. `value` is the selector itself unless another judge grades.
    """
    seeds = selector.shape[1]
    if not 1 <= n <= seeds:
        raise ValueError(f"n is {n:g}; the table has {seeds} seeds, so n is 1 to {seeds}")
    if (whole := int(n)) != n:
        low, high = best_of_n(selector, whole, value), best_of_n(selector, whole + 1, value)
        return low + (n - whole) * (high - low)
    chance = np.array([comb(rank, whole - 1) for rank in range(seeds)]) / comb(seeds, whole)
    value = selector if value is None else value
    return np.array([_by_rank(*row) @ chance for row in zip(selector, value, strict=True)])


def _by_rank(selector: Floats, value: Floats) -> Floats:
    """Values in ascending order of the selector; tied seeds share their mean value."""
    _, group = np.unique(selector, return_inverse=True)
    means = np.bincount(group, value) / np.bincount(group)
    return means[np.sort(group)]


def best_until_right(
    selector: Floats, right: Floats, renders: float, value: Floats
) -> tuple[Floats, float]:
    """Expected `value` of the best seed so far when rendering stops at the first right one.

    Seeds come in random order, at most m for each row. The (fractional) m is chosen so that rows
    take `renders` on average, or is all seeds if even that is cheaper.

    Returns:
        The values, [prompt], and the mean number of renders of a row.
    """
    rows, seeds = selector.shape
    rng = np.random.default_rng(0)
    worth, taken = np.zeros((rows, seeds)), np.zeros((rows, seeds))
    for _ in range(TIE_BREAKS):
        order = rng.permuted(np.tile(np.arange(seeds), (rows, 1)), axis=1)
        seen, hit, worths = (np.take_along_axis(x, order, 1) for x in (selector, right, value))
        record = np.maximum.accumulate(seen, 1)
        fresh = np.hstack([np.ones((rows, 1), bool), record[:, 1:] > record[:, :-1]])
        best = np.maximum.accumulate(np.where(fresh, np.arange(seeds), 0), 1)
        worth += np.take_along_axis(worths, best, 1) / TIE_BREAKS
        going = np.hstack([np.ones((rows, 1)), 1 - np.maximum.accumulate(hit, 1)[:, :-1]])
        taken += going.cumsum(1) / TIE_BREAKS
    most = np.arange(1, seeds + 1)
    limit = np.interp(renders, taken.mean(0), most)
    values = np.array([np.interp(limit, most, row) for row in worth])
    return values, float(np.interp(limit, most, taken.mean(0)))
