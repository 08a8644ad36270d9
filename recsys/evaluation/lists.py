"""Accuracy of recommended lists where several items may be right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.metrics import PerUser


@dataclass(frozen=True, eq=False)
class Hits:
    """Which places of each user's list hold a right item."""

    is_hit: NDArray[np.bool_]
    """[n, length], best place first."""
    n_relevant: NDArray[np.int64]
    """How many items are right, in the list or not, [n]; at least one."""


def find_hits(
    recommended: NDArray[np.int32], relevant: Sequence[NDArray[np.int32]], n_items: int
) -> Hits:
    """Look each recommended item up among the right ones of its user.

    Args:
        recommended: items, best first, [n, length]; −1 where a list is shorter.
        relevant: the right items of each user, each once, at least one.
        n_items: size of the catalogue.

    Raises:
        ValueError: somebody has no right item, which leaves recall undefined.
    """
    counts = np.array([len(items) for items in relevant], dtype=np.int64)
    if np.any(counts == 0):
        raise ValueError(f"user {np.argmin(counts)} of {len(counts)} has no right item: leave out")
    rows = np.arange(len(counts))
    wanted = np.repeat(rows, counts) * n_items + np.concatenate([*relevant, np.empty(0, np.int32)])
    keys = rows[:, None] * n_items + recommended
    return Hits(np.isin(keys, wanted) & (recommended >= 0), counts)


def hit_rate(hits: Hits, k: int) -> PerUser:
    """One where any of the first k is right, [n]."""
    return np.asarray(hits.is_hit[:, :k].any(axis=1), dtype=np.float64)


def recall(hits: Hits, k: int) -> PerUser:
    """How many of the right items are among the first k, [n]."""
    return np.asarray(hits.is_hit[:, :k].sum(axis=1) / hits.n_relevant, dtype=np.float64)


def precision(hits: Hits, k: int) -> PerUser:
    """How many of the first k are right, [n]; places that a short list leaves empty are not."""
    return np.asarray(hits.is_hit[:, :k].sum(axis=1) / k)


def ndcg(hits: Hits, k: int) -> PerUser:
    """Σ 1 / log₂(place + 1) over right items of the first k, over the best attainable, [n].

    Järvelin & Kekäläinen 2002, with gains of zero and one.
    """
    found = hits.is_hit[:, :k]
    gain = found @ (1.0 / np.log2(np.arange(2, found.shape[1] + 2)))
    ideal = np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))
    return np.asarray(gain / ideal[np.minimum(hits.n_relevant, k) - 1])


def mrr(hits: Hits, k: int) -> PerUser:
    """One over the place of the first right item within the first k, else zero, [n]."""
    found = hits.is_hit[:, :k]
    return np.where(found.any(axis=1), 1.0 / (1 + found.argmax(axis=1)), 0.0)


def average_precision(hits: Hits, k: int) -> PerUser:
    """The mean, over right items, of the precision down to each one within the first k, [n].

    Right items that are not there count zero, as many of them as could have been there:
    the sum is over min(k, n_relevant). The mean over users is MAP@k.
    """
    found = hits.is_hit[:, :k]
    precisions = np.cumsum(found, axis=1) / np.arange(1, found.shape[1] + 1)
    return np.asarray((precisions * found).sum(axis=1) / np.minimum(hits.n_relevant, k))


SET_METRICS: dict[str, Callable[[Hits, int], PerUser]] = {
    "hit_rate": hit_rate,
    "recall": recall,
    "precision": precision,
    "ndcg": ndcg,
    "mrr": mrr,
    "map": average_precision,
}
"""Each metric by its key. Of one right item, recall is the hit rate and MAP is MRR."""


def set_metrics(
    recommended: NDArray[np.int32],
    users: NDArray[np.integer],
    targets: NDArray[np.int32],
    n_items: int,
) -> dict[str, float]:
    """How many of all targets of a user the list holds that the user got before the first of them.

    Args:
        recommended: items for each target's history, best first, [n, k].
        users: the user of each target, ascending, [n]; targets of one user in order.
        targets: the right items, [n].
        n_items: size of the catalogue.

    Returns:
        The mean over users of each of `SET_METRICS`, as `list_recall_at_10`.

    Example:
        >>> lists = np.array([[3, 1], [9, 9]], dtype=np.int32)
        >>> found = set_metrics(lists, np.array([7, 7]), np.array([1, 2], np.int32), 10)
        >>> found["list_recall_at_2"], found["list_precision_at_2"]
        (0.5, 0.5)
    """
    first = np.flatnonzero(np.diff(users, prepend=-1))
    relevant = [np.unique(items) for items in np.split(targets, first[1:])]
    hits = find_hits(recommended[first], relevant, n_items)
    k = recommended.shape[1]
    return {
        f"list_{name}_at_{k}": float(metric(hits, k).mean()) for name, metric in SET_METRICS.items()
    }
