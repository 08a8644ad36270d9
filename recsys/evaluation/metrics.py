"""Metrics of ranked recommendations: from ranks, from sets of targets, and beyond accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.data import Interactions

Items = NDArray[np.int32]
Ranks = NDArray[np.int64]
Values = NDArray[np.float64]


def hit_rate(ranks: Ranks, k: int) -> Values:
    """1 up to rank k, else 0, [n]."""
    return (ranks <= k).astype(np.float64)


def ndcg(ranks: Ranks, k: int) -> Values:
    """1 / log₂(rank + 1) up to rank k, else 0, [n] (Järvelin & Kekäläinen 2002)."""
    return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)


def mrr(ranks: Ranks, k: int) -> Values:
    """1 / rank up to rank k, else 0, [n] (Voorhees 1999)."""
    return np.where(ranks <= k, 1.0 / ranks, 0.0)


METRICS = {"hit_rate": hit_rate, "ndcg": ndcg, "mrr": mrr}
TITLES = {"hit_rate": "HitRate", "ndcg": "NDCG", "mrr": "MRR"}
"""The display name of each of `METRICS`."""

SESSION_TITLES = {**TITLES, "hit_rate": "Recall"}
"""As the literature on sessions names them: with one target, recall is the hit rate."""


def mean_by_user(values: Values, users: NDArray[Any], *, over_targets: bool = False) -> Values:
    """Average the values of each user, in order of first appearance, [n_users].

    With `over_targets`, the mean of the result is that over all targets instead: it has, for each
    user, the mean and what the user adds to it, to first order (the linearised ratio estimator:
    Särndal, Swensson & Wretman 1992, §5.6). So users are the units of all tests.
    """
    codes, _ = pd.factorize(users)
    sums, counts = np.bincount(codes, weights=values), np.bincount(codes)
    if over_targets:
        sums = values.mean() * counts.mean() + sums - values.mean() * counts
        counts = counts.mean()
    return sums / counts


def mean_metrics(
    ranks: Ranks, users: NDArray[Any], ks: Sequence[int], *, over_targets: bool = False
) -> dict[str, float]:
    """Compute the mean of every metric at every cutoff, with keys such as `ndcg_at_10`.

    The mean is taken over the targets of each user first, and then over users; or over all targets.
    `users` are those of the targets, [n].
    """
    codes, _ = pd.factorize(users)
    return {
        f"{name}_at_{k}": float(
            mean_by_user(metric(ranks, k), codes, over_targets=over_targets).mean()
        )
        for name, metric in METRICS.items()
        for k in ks
    }


def find_hits(
    recommended: Items, rows: NDArray[np.int64], targets: Items, n_items: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Mark the recommended items that are targets, [n, length], and count the targets, [n].

    `rows` holds the row of `recommended` for each target; every row has at least one target.
    """
    relevant = np.unique(rows * n_items + targets)
    keys = np.arange(len(recommended))[:, None] * n_items + recommended
    n_relevant = np.bincount(relevant // n_items, minlength=len(recommended))
    return np.isin(keys, relevant) & (recommended >= 0), n_relevant


def hit_metrics(
    is_hit: NDArray[np.bool_], n_relevant: NDArray[np.int64], k: int
) -> dict[str, Values]:
    """Compute the set metrics of the first k positions, each [n].

    The prefix `user_` distinguishes them from the `METRICS` of the same name. MAP divides by
    min(k, n_relevant). With one relevant item, recall is the hit rate and MAP is MRR.
    """
    is_hit = is_hit[:, :k]
    positions = np.arange(1, is_hit.shape[1] + 1)
    n_hits, any_hit = is_hit.sum(axis=1), is_hit.any(axis=1)
    precisions = np.cumsum(is_hit, axis=1) / positions
    ideal_gains = np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))
    n_possible = np.minimum(n_relevant, k)
    return {
        "recall": n_hits / n_relevant,
        "precision": n_hits / k,
        "map": (precisions * is_hit).sum(axis=1) / n_possible,
        "user_hit_rate": any_hit.astype(np.float64),
        "user_ndcg": is_hit @ (1.0 / np.log2(positions + 1)) / ideal_gains[n_possible - 1],
        "user_mrr": np.where(any_hit, 1.0 / (1 + is_hit.argmax(axis=1)), 0.0),
    }


def set_metrics(
    recommended: Items, users: NDArray[np.integer], targets: Items, n_items: int
) -> dict[str, float]:
    """Compare each user's recommendations before the first target with all the user's targets.

    The targets, [n], are in order of user and time; `recommended` has a row for each, [n, k].
    Returns the means of `hit_metrics` over users, with keys such as `recall_at_10`.
    """
    is_first = np.diff(users, prepend=-1) > 0
    hits = find_hits(recommended[is_first], np.cumsum(is_first) - 1, targets, n_items)
    k = recommended.shape[1]
    by_user = hit_metrics(*hits, k)
    return {f"{name}_at_{k}": float(values.mean()) for name, values in by_user.items()}


def coverage(recommended: Items, n_items: int) -> float:
    """Share of the catalogue that is recommended to at least one user."""
    return len(np.unique(recommended[recommended >= 0])) / n_items


def gini(recommended: Items, n_items: int) -> float:
    """Gini index of the recommendation counts: 0 if all are equal, near 1 if few items dominate.

    G = Σ_i (2i − N − 1) x_i / (N Σ x), where x_1 ≤ … ≤ x_N are the counts of the N items.
    """
    x = np.sort(np.bincount(recommended[recommended >= 0], minlength=n_items))
    weights = 2.0 * np.arange(1, n_items + 1) - n_items - 1
    return float(weights @ x / (n_items * max(x.sum(), 1)))


def novelty(recommended: Items, popularity: Values, n_users: int) -> float:
    """Mean self-information of the recommended items, −log₂ of their share of users, in bits.

    Zhou et al. 2010, "Solving the apparent diversity-accuracy dilemma". An item without users
    counts as an item of one user, since its self-information would be infinite.
    """
    shares = np.maximum(popularity[recommended[recommended >= 0]], 1.0 / n_users)
    return float(-np.log2(shares).mean())


def diversity(recommended: Items, vectors: NDArray[Any]) -> float:
    """Mean over lists of 1 − cosine of two items of the same list.

    Ziegler et al. 2005, "Improving recommendation lists through topic diversification". For unit
    vectors, Σ_{i≠j} cos = ‖Σ v‖² − Σ ‖v‖². Lists with fewer than two items do not count. Zero
    vectors have cosine 0 with all others.
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
    """Share of targets that the model ranks within k and popularity does not (Ge et al. 2010)."""
    if ranks.shape != popularity_ranks.shape:
        raise ValueError(f"{len(ranks)} ranks, but {len(popularity_ranks)} by popularity")
    return float(((ranks <= k) & (popularity_ranks > k)).mean())


def list_quality(
    recommended: Items, train: Interactions, item_vectors: NDArray[np.float32] | None = None
) -> dict[str, float]:
    """Compute properties of lists, [n, k], beyond accuracy, with keys such as `gini_at_10`.

    The popularity of an item is the share of users with training interactions who have it.
    Diversity needs item vectors.
    """
    n_users = max(int(np.count_nonzero(train.history_lengths)), 1)
    items: NDArray[np.integer] = train.item_index
    if train.repeats:  # a user counts once
        items = np.unique(train.pairs()) % train.n_items
    popularity = np.bincount(items, minlength=train.n_items) / n_users
    values = {
        "coverage": coverage(recommended, train.n_items),
        "gini": gini(recommended, train.n_items),
        "popularity": float(popularity[recommended[recommended >= 0]].mean()),
        "novelty": novelty(recommended, popularity, n_users),
    }
    if item_vectors is not None:
        values["diversity"] = diversity(recommended, item_vectors)
    return {f"{name}_at_{recommended.shape[1]}": value for name, value in values.items()}
