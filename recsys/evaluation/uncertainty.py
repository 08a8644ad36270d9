"""How far a mean over users can be trusted, and whether two models differ.

Users are what varies: all resampling is of users. Per-user metrics of ranks take few distinct
values, so that a resample is drawn as the number of times that each value occurs: the same
distribution as drawing users one by one, at a cost that does not grow with their number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]

RESAMPLES = 10_000


def mean_by_user(values: Values, users: NDArray[Any]) -> Values:
    """The mean of each user's cases, in order of first appearance, [n_users].

    Cases of one user are not independent: what is resampled has to be users.
    """
    codes, _ = pd.factorize(users)
    return np.bincount(codes, weights=values) / np.bincount(codes)


def bootstrap_interval(
    values: Values, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval of the mean (Efron & Tibshirani 1993, chapter 13).

    Args:
        values: one per user, [n_users].
        level: how often such intervals hold the true mean.
        resamples: how many means are drawn.
        seed: of the draw.
    """
    low, high = np.quantile(_means(values, resamples, seed), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_p(differences: Values, *, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p of the paired bootstrap: how often resampled means lie across zero, twice.

    Efron & Tibshirani 1993, chapter 15, by inverting the percentile interval.
    """
    means = _means(differences, resamples, seed)
    across = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    return float(min(1.0, 2 * (across + 1) / (resamples + 1)))


def randomization_p(differences: Values, *, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p of Fisher's paired randomisation test.

    Smucker, Allan & Carterette 2007, "A comparison of statistical significance tests for
    information retrieval evaluation": were the models alike, each user's two results could as
    well be swapped, which turns the sign of the difference.
    """
    sizes, counts = np.unique(np.abs(differences), return_counts=True)
    rng = np.random.default_rng(seed)
    positive = rng.binomial(counts, 0.5, size=(resamples, len(sizes)))
    sums = (2 * positive - counts) @ sizes
    observed = abs(float(differences.sum()))
    # Sums of the same numbers in another order differ in the last digits.
    extreme = np.count_nonzero(np.abs(sums) >= observed - 1e-9 * max(float(counts @ sizes), 1e-300))
    return float((extreme + 1) / (resamples + 1))


def wilcoxon_p(differences: Values) -> float:
    """Two-sided p of the signed-rank test (Wilcoxon 1945), users without a difference left out."""
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences, zero_method="wilcox").pvalue)


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """P-values adjusted for their number: Holm 1979, "A simple sequentially rejective procedure".

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    steps = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _means(values: Values, resamples: int, seed: int) -> Values:
    """Means of samples of as many users, drawn with replacement, [resamples]."""
    if not len(values):
        raise ValueError("there are no users to resample")
    distinct, counts = np.unique(values, return_counts=True)
    rng = np.random.default_rng(seed)
    shares = counts / len(values)
    # In pieces, since users of several cases have as many distinct values as there are users.
    piece = max(1, 2_000_000 // len(distinct))
    drawn = [
        rng.multinomial(len(values), shares, size=min(piece, resamples - start)) @ distinct
        for start in range(0, resamples, piece)
    ]
    return np.concatenate(drawn) / len(values)
