"""Accuracy metrics for one right item per prediction, from its rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Ranks = NDArray[np.int64]
PerUser = NDArray[np.float64]


def hit_rate(ranks: Ranks, k: int) -> PerUser:
    """One where the target is among the first k, else zero, [n]."""
    return (ranks <= k).astype(np.float64)


def ndcg(ranks: Ranks, k: int) -> PerUser:
    """1 / log₂(rank + 1) within the first k, else zero, [n].

    Normalised discounted cumulative gain (Järvelin & Kekäläinen 2002) where one item is
    relevant: the ideal gain is one.
    """
    return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)


def mrr(ranks: Ranks, k: int) -> PerUser:
    """1 / rank within the first k, else zero, [n] (mean reciprocal rank, Voorhees 1999)."""
    return np.where(ranks <= k, 1.0 / ranks, 0.0)


METRICS: dict[str, Callable[[Ranks, int], PerUser]] = {
    "hit_rate": hit_rate,
    "ndcg": ndcg,
    "mrr": mrr,
}
"""Each metric by its key."""

TITLES = {"hit_rate": "HitRate", "ndcg": "NDCG", "mrr": "MRR"}
"""Each metric's name for people, by its key."""


def mean_metrics(ranks: Ranks, ks: Sequence[int]) -> dict[str, float]:
    """The mean over targets of every metric at every k, as `ndcg_at_10`.

    Example:
        >>> mean_metrics(np.array([1, 3, 20]), ks=[10])["hit_rate_at_10"]
        0.6666666666666666
    """
    return {
        f"{name}_at_{k}": float(metric(ranks, k).mean())
        for name, metric in METRICS.items()
        for k in ks
    }
