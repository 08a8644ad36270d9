"""What else there is to recommendations than being right: how varied, how new, how surprising."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.data import Interactions


def coverage(recommended: NDArray[np.int32], n_items: int) -> float:
    """How much of the catalogue is recommended to anyone."""
    return len(np.unique(recommended[recommended >= 0])) / n_items


def gini(recommended: NDArray[np.int32], n_items: int) -> float:
    """How unevenly items are recommended: 0 all alike, towards 1 only few.

    G = Σ_i (2i − N − 1) x_i / (N Σ x), with x_1 ≤ … ≤ x_N how often each of the N items is.
    """
    x = np.sort(np.bincount(recommended[recommended >= 0], minlength=n_items))
    places = 2.0 * np.arange(1, n_items + 1) - n_items - 1
    return float(places @ x / (n_items * max(x.sum(), 1)))


def mean_popularity(recommended: NDArray[np.int32], popularity: NDArray[np.float64]) -> float:
    """The mean share of users who watched what is recommended.

    Args:
        recommended: items, [n, k]; −1 where a list is shorter.
        popularity: the share of users who watched each item, [n_items].
    """
    return float(popularity[recommended[recommended >= 0]].mean())


def novelty(recommended: NDArray[np.int32], popularity: NDArray[np.float64], n_users: int) -> float:
    """The mean self-information of what is recommended, −log₂ of its popularity, in bits.

    Zhou et al. 2010, "Solving the apparent diversity-accuracy dilemma". What nobody watched
    counts as watched by one user: its information would be without bound.
    """
    shares = np.maximum(popularity[recommended[recommended >= 0]], 1.0 / n_users)
    return float(-np.log2(shares).mean())


def diversity(recommended: NDArray[np.int32], vectors: NDArray[Any]) -> float:
    """The mean, over lists, of 1 − cosine of two items of the list.

    Ziegler et al. 2005, "Improving recommendation lists through topic diversification". With all
    vectors at length one, Σ_{i≠j} cos = ‖Σ v‖² − Σ ‖v‖². Lists of fewer than two items are left
    out.

    Args:
        recommended: items, [n, k]; −1 where a list is shorter.
        vectors: one per item, [n_items, dim]; one of zeros is like nothing.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = np.asarray(vectors / np.where(lengths > 0, lengths, 1.0), dtype=np.float64)
    units = np.vstack([units, np.zeros(units.shape[1])])  # the last is that of −1
    n = (recommended >= 0).sum(axis=1)
    summed = np.zeros((len(recommended), units.shape[1]))
    squares = np.zeros(len(recommended))
    for items in recommended.T:
        summed += units[items]
        squares += np.square(units[items]).sum(axis=1)
    long = n > 1
    cosines = (np.square(summed).sum(axis=1) - squares)[long] / (n * (n - 1))[long]
    return float(1.0 - cosines.mean())


def serendipity(ranks: NDArray[np.int64], obvious: NDArray[np.int64], k: int) -> float:
    """How many targets are found within k that an obvious model does not find within k.

    Ge, Delgado-Battenfeld & Jannach 2010, "Beyond accuracy": useful, and not expected of a
    primitive model, here the most watched items.

    Args:
        ranks: of the targets, by the model, [n].
        obvious: of the same targets, by popularity, [n].
        k: length of list.
    """
    if ranks.shape != obvious.shape:
        raise ValueError(f"{len(ranks)} ranks, but {len(obvious)} by popularity")
    return float(((ranks <= k) & (obvious > k)).mean())


def beyond_accuracy(recommended: NDArray[np.int32], train: Interactions) -> dict[str, float]:
    """Coverage, Gini, popularity and novelty of lists, as `coverage_at_10`.

    Args:
        recommended: items, best first, [n, k].
        train: what the model learned from; its users say what is popular.
    """
    n_users = max(int(np.count_nonzero(train.history_lengths)), 1)
    popularity = np.bincount(train.item_index, minlength=train.n_items) / n_users
    k = recommended.shape[1]
    return {
        f"coverage_at_{k}": coverage(recommended, train.n_items),
        f"gini_at_{k}": gini(recommended, train.n_items),
        f"popularity_at_{k}": mean_popularity(recommended, popularity),
        f"novelty_at_{k}": novelty(recommended, popularity, n_users),
    }
