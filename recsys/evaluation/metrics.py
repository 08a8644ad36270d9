"""Metrics of ranked recommendations.

- `METRICS`: one target per prediction, computed from its rank.
- `SET_METRICS`: several targets per user, computed from the user's recommendations.
- `list_quality` and `serendipity`: coverage, novelty and other properties beyond accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.data import Interactions

Ranks = NDArray[np.int64]
Values = NDArray[np.float64]


def hit_rate(ranks: Ranks, k: int) -> Values:
    """1 if the target is among the first k, else 0, [n]."""
    return (ranks <= k).astype(np.float64)


def ndcg(ranks: Ranks, k: int) -> Values:
    """1 / log₂(rank + 1) if the target is among the first k, else 0, [n].

    Normalised discounted cumulative gain (Järvelin & Kekäläinen 2002). With one relevant item,
    the ideal gain is 1.
    """
    return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)


def mrr(ranks: Ranks, k: int) -> Values:
    """1 / rank if the target is among the first k, else 0, [n] (Voorhees 1999)."""
    return np.where(ranks <= k, 1.0 / ranks, 0.0)


METRICS: dict[str, Callable[[Ranks, int], Values]] = {
    "hit_rate": hit_rate,
    "ndcg": ndcg,
    "mrr": mrr,
}
"""Each metric by its key."""

TITLES = {"hit_rate": "HitRate", "ndcg": "NDCG", "mrr": "MRR"}
"""The display name of each metric."""


def mean_metrics(ranks: Ranks, ks: Sequence[int]) -> dict[str, float]:
    """Compute the mean of every metric at every cutoff, with keys such as `ndcg_at_10`.

    Example:
        >>> mean_metrics(np.array([1, 3, 20]), ks=[10])["hit_rate_at_10"]
        0.6666666666666666
    """
    return {
        f"{name}_at_{k}": float(metric(ranks, k).mean())
        for name, metric in METRICS.items()
        for k in ks
    }


@dataclass(frozen=True, eq=False)
class Hits:
    """Which recommendations are relevant, for each user."""

    is_hit: NDArray[np.bool_]
    """Whether the item at each position is relevant, best position first, [n, length]."""
    n_relevant: NDArray[np.int64]
    """Number of relevant items, recommended or not, at least one, [n]."""


def find_hits(
    recommended: NDArray[np.int32], relevant: Sequence[NDArray[np.int32]], n_items: int
) -> Hits:
    """Mark the recommended items that are relevant.

    Args:
        recommended: items, best first, [n, length]; −1 pads short lists.
        relevant: the distinct relevant items of each user, at least one.
        n_items: size of the catalogue.

    Raises:
        ValueError: a user has no relevant item, so that recall is undefined.
    """
    counts = np.array([len(items) for items in relevant], dtype=np.int64)
    if np.any(counts == 0):
        raise ValueError(f"user {np.argmin(counts)} of {len(counts)} has no relevant item")
    rows = np.arange(len(counts))
    relevant_keys = np.repeat(rows, counts) * n_items + np.concatenate(
        [*relevant, np.empty(0, np.int32)]
    )
    keys = rows[:, None] * n_items + recommended
    return Hits(np.isin(keys, relevant_keys) & (recommended >= 0), counts)


def recall(hits: Hits, k: int) -> Values:
    """Share of the relevant items that are among the first k, [n]."""
    return np.asarray(hits.is_hit[:, :k].sum(axis=1) / hits.n_relevant, dtype=np.float64)


def precision(hits: Hits, k: int) -> Values:
    """Share of the first k positions that hold a relevant item, empty positions included, [n]."""
    return np.asarray(hits.is_hit[:, :k].sum(axis=1) / k)


def average_precision(hits: Hits, k: int) -> Values:
    """Mean precision at the positions of the relevant items, [n]; its mean over users is MAP@k.

    The sum of the precisions is divided by min(k, n_relevant), the most hits that are possible.
    """
    is_hit = hits.is_hit[:, :k]
    precisions = np.cumsum(is_hit, axis=1) / np.arange(1, is_hit.shape[1] + 1)
    return np.asarray((precisions * is_hit).sum(axis=1) / np.minimum(hits.n_relevant, k))


def user_hit_rate(hits: Hits, k: int) -> Values:
    """1 if any of the first k items is relevant, else 0, [n]."""
    return np.asarray(hits.is_hit[:, :k].any(axis=1), dtype=np.float64)


def user_ndcg(hits: Hits, k: int) -> Values:
    """Binary DCG of the first k positions divided by the ideal DCG, [n]."""
    is_hit = hits.is_hit[:, :k]
    gain = is_hit @ (1.0 / np.log2(np.arange(2, is_hit.shape[1] + 2)))
    ideal = np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))
    return np.asarray(gain / ideal[np.minimum(hits.n_relevant, k) - 1])


def user_mrr(hits: Hits, k: int) -> Values:
    """1 / position of the first relevant item if it is among the first k, else 0, [n]."""
    is_hit = hits.is_hit[:, :k]
    return np.where(is_hit.any(axis=1), 1.0 / (1 + is_hit.argmax(axis=1)), 0.0)


SET_METRICS: dict[str, Callable[[Hits, int], Values]] = {
    "recall": recall,
    "precision": precision,
    "map": average_precision,
    "user_hit_rate": user_hit_rate,
    "user_ndcg": user_ndcg,
    "user_mrr": user_mrr,
}
"""Each set metric by its key. The prefix `user_` distinguishes those that share their name with
a metric of single targets. With one relevant item, recall is the hit rate and MAP is MRR."""


def set_metrics(
    recommended: NDArray[np.int32],
    users: NDArray[np.integer],
    targets: NDArray[np.int32],
    n_items: int,
) -> dict[str, float]:
    """Compare each user's recommendations before the first target with all the user's targets.

    Args:
        recommended: items for the history of each target, best first, [n, k].
        users: the user of each target, ascending, [n]; the targets of a user are in order.
        targets: the relevant items, [n].
        n_items: size of the catalogue.

    Returns:
        The mean over users of each of `SET_METRICS`, with keys such as `recall_at_10`.

    Example:
        >>> lists = np.array([[3, 1], [9, 9]], dtype=np.int32)
        >>> means = set_metrics(lists, np.array([7, 7]), np.array([1, 2], np.int32), n_items=10)
        >>> means["recall_at_2"], means["precision_at_2"]
        (0.5, 0.5)
    """
    first = np.flatnonzero(np.diff(users, prepend=-1))
    relevant = [np.unique(items) for items in np.split(targets, first[1:])]
    hits = find_hits(recommended[first], relevant, n_items)
    k = recommended.shape[1]
    return {f"{name}_at_{k}": float(metric(hits, k).mean()) for name, metric in SET_METRICS.items()}


def coverage(recommended: NDArray[np.int32], n_items: int) -> float:
    """Share of the catalogue that is recommended to at least one user."""
    return len(np.unique(recommended[recommended >= 0])) / n_items


def gini(recommended: NDArray[np.int32], n_items: int) -> float:
    """Gini index of the recommendation counts: 0 if all are equal, near 1 if few items dominate.

    G = Σ_i (2i − N − 1) x_i / (N Σ x), where x_1 ≤ … ≤ x_N are the counts of the N items.
    """
    x = np.sort(np.bincount(recommended[recommended >= 0], minlength=n_items))
    weights = 2.0 * np.arange(1, n_items + 1) - n_items - 1
    return float(weights @ x / (n_items * max(x.sum(), 1)))


def mean_popularity(recommended: NDArray[np.int32], popularity: Values) -> float:
    """Mean popularity of the recommended items, the share of users who interacted with each."""
    return float(popularity[recommended[recommended >= 0]].mean())


def novelty(recommended: NDArray[np.int32], popularity: Values, n_users: int) -> float:
    """Mean self-information of the recommended items, −log₂ of their popularity, in bits.

    Zhou et al. 2010, "Solving the apparent diversity-accuracy dilemma". An item without users
    counts as an item of one user, since its self-information would be infinite.
    """
    shares = np.maximum(popularity[recommended[recommended >= 0]], 1.0 / n_users)
    return float(-np.log2(shares).mean())


def diversity(recommended: NDArray[np.int32], vectors: NDArray[Any]) -> float:
    """Mean over lists of 1 − cosine of two items of the same list.

    Ziegler et al. 2005, "Improving recommendation lists through topic diversification". For unit
    vectors, Σ_{i≠j} cos = ‖Σ v‖² − Σ ‖v‖². Lists with fewer than two items do not count.

    Args:
        recommended: items, [n, k]; −1 pads short lists.
        vectors: one per item, [n_items, dim]; a zero vector has cosine 0 with all others.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = np.asarray(vectors / np.where(norms > 0, norms, 1.0), dtype=np.float64)
    units = np.vstack([units, np.zeros(units.shape[1])])  # the last row belongs to the padding −1
    n = (recommended >= 0).sum(axis=1)
    sums = np.zeros((len(recommended), units.shape[1]))
    squares = np.zeros(len(recommended))
    for items in recommended.T:
        sums += units[items]
        squares += np.square(units[items]).sum(axis=1)
    has_pairs = n > 1
    cosines = (np.square(sums).sum(axis=1) - squares)[has_pairs] / (n * (n - 1))[has_pairs]
    return float(1.0 - cosines.mean())


def serendipity(ranks: Ranks, popularity_ranks: Ranks, k: int) -> float:
    """Share of targets that the model ranks within k and popularity does not.

    Ge, Delgado-Battenfeld & Jannach 2010, "Beyond accuracy".

    Args:
        ranks: of the targets, by the model, [n].
        popularity_ranks: of the same targets, by popularity, [n].
        k: length of the list.
    """
    if ranks.shape != popularity_ranks.shape:
        raise ValueError(f"{len(ranks)} ranks, but {len(popularity_ranks)} by popularity")
    return float(((ranks <= k) & (popularity_ranks > k)).mean())


def list_quality(
    recommended: NDArray[np.int32],
    train: Interactions,
    item_vectors: NDArray[np.float32] | None = None,
) -> dict[str, float]:
    """Coverage, Gini index, popularity, novelty and diversity, with keys such as `gini_at_10`.

    Args:
        recommended: items, best first, [n, k].
        train: what the model was trained on; defines the popularity of the items.
        item_vectors: for the diversity, which is omitted without them, [n_items, dim].
    """
    n_users = max(int(np.count_nonzero(train.history_lengths)), 1)
    popularity = np.bincount(train.item_index, minlength=train.n_items) / n_users
    values = {
        "coverage": coverage(recommended, train.n_items),
        "gini": gini(recommended, train.n_items),
        "popularity": mean_popularity(recommended, popularity),
        "novelty": novelty(recommended, popularity, n_users),
    }
    if item_vectors is not None:
        values["diversity"] = diversity(recommended, item_vectors)
    return {f"{name}_at_{recommended.shape[1]}": value for name, value in values.items()}
