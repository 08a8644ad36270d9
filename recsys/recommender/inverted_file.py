"""The items with the highest scores, found without scoring all of them.

An inverted file, as `IndexIVFFlat` of faiss (Johnson, Douze & Jégou 2021): similar items form a
cluster, and a query scores the items of some clusters. A score is the dot product of a query with
the features of an item. The mean score of each cluster is therefore known exactly, and the variance
approximately, and with them the number of better items that are expected in clusters that were not
scored. More clusters are scored until this number is small.

Shapes: N items, C features, K clusters, W clusters that were not scored, S scored items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

from recsys.recommender.catalogue import Floats, Indices

_FIRST_SHARE: Final = 1 / 64
_MIN_CLUSTERS: Final = 4
"""Clusters that are scored first; twice as many follow each time."""

_BASIS_EVERY: Final = 8
"""The axes of the variances are those of every eighth cluster."""

_ROUNDING: Final = np.float32(1e-5)
"""Standard deviation of the scores of equal items."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """A partition of the items, as a bundle stores it."""

    cluster: NDArray[np.int32]
    """The cluster of each item, from 0, [n_items]."""
    max_missed: float
    """Share of the best items that would be missed if scores were normal, at most. More are missed,
    because their tails are heavier."""


class Found(NamedTuple):
    """The best items of a query."""

    item: Indices
    """Best first; ties go to the lower index."""
    score: Floats
    log_z: float
    """Logarithm of the sum of the exponentials of all scores. The part of the clusters that were
    not scored is estimated."""
    n_scored: int


class InvertedFile:
    """Items by cluster.

    Args:
        features: Arrays with a row for each item, whose columns together are the features.
        clusters: The cluster of each item.
    """

    def __init__(self, features: Sequence[Floats], clusters: Clusters) -> None:
        self._max_missed = clusters.max_missed
        self._cluster_N = cluster_N = clusters.cluster
        self._size_K = np.bincount(cluster_N)
        bounds = self._size_K.cumsum()[:-1]
        self._items = np.split(np.argsort(cluster_N, kind="stable"), bounds)
        n_features = sum(part.shape[1] for part in features)
        # One block of memory, for which the system can use large pages.
        memory = np.empty(len(cluster_N) * n_features, np.float32)
        parts = np.split(memory, bounds * n_features)
        self._blocks = [part.reshape(n_features, -1) for part in parts]  # by cluster, [C, size]
        self._mean_CK = np.zeros((n_features, len(self._size_K)), np.float32)
        for cluster in np.flatnonzero(self._size_K):
            items, block_CS = self._items[cluster], self._blocks[cluster]
            np.concatenate([part[items].T for part in features], out=block_CS)
            self._mean_CK[:, cluster] = block_CS.mean(axis=1)
        self._axes_CC, self._variance_CK = self._variances()

    def _variances(self) -> tuple[Floats, Floats]:
        """Axes along which features are uncorrelated within the average cluster, as columns.

        And the variance of each cluster along each axis.
        """
        clusters = np.flatnonzero(self._size_K).tolist()
        total_CC = np.zeros((len(self._mean_CK),) * 2)
        for cluster in clusters[::_BASIS_EVERY]:
            centred_CS = self._centred(cluster)
            total_CC += centred_CS @ centred_CS.T
        axes_CC: Floats = np.linalg.eigh(total_CC)[1].astype(np.float32)
        variance_CK = np.zeros_like(self._mean_CK)
        for cluster in clusters:
            variance_CK[:, cluster] = np.square(axes_CC.T @ self._centred(cluster)).mean(axis=1)
        return axes_CC, variance_CK

    def _centred(self, cluster: int) -> Floats:
        centred_CS: Floats = self._blocks[cluster] - self._mean_CK[:, cluster, None]
        return centred_CS

    def search(
        self,
        query_C: Floats,
        k: int,
        usable_N: NDArray[np.bool_],
        removed: NDArray[np.integer],
    ) -> Found:
        """The k usable items with the highest scores; fewer if there are not as many.

        Args:
            query_C: Weight of each feature. Features without a weight at the end may be left out.
            k: Number of items.
            usable_N: Mask of the items that may be found.
            removed: Distinct items that are not part of the normaliser.
        """
        n = len(query_C)
        mean_K = query_C @ self._mean_CK[:n]
        spread_K = np.sqrt(np.square(query_C @ self._axes_CC[:n]) @ self._variance_CK) + _ROUNDING
        item_S, score_S, waiting_W, threshold = self._scan(query_C, k, usable_N, mean_K, spread_K)
        is_part_N = np.full(len(usable_N), True)
        is_part_N[removed] = False
        size_K = self._size_K - np.bincount(self._cluster_N[removed], minlength=len(mean_K))
        log_z = _log_sum_exp(
            score_S[is_part_N[item_S]],
            size_K[waiting_W],
            mean_K[waiting_W],
            spread_K[waiting_W],
            threshold,
        )
        (best,) = np.nonzero(usable_N[item_S] & (score_S >= threshold))
        best = best[np.lexsort((item_S[best], -score_S[best]))[:k]]
        return Found(item_S[best], score_S[best], log_z, len(item_S))

    def _scan(
        self,
        query_C: Floats,
        k: int,
        usable_N: NDArray[np.bool_],
        mean_K: Floats,
        spread_K: Floats,
    ) -> tuple[Indices, Floats, Indices, float]:
        """Scored items, their scores, the clusters that were not scored, and the k-th best score.

        If fewer than k items are usable, all clusters are scored and the last is minus infinity.
        """
        waiting_W = np.flatnonzero(self._size_K)
        n_clusters = max(_MIN_CLUSTERS, int(_FIRST_SHARE * len(waiting_W)))
        threshold, target = -np.inf, float((mean_K + 3 * spread_K)[waiting_W].max())
        best = np.empty(0, np.float32)
        parts: list[tuple[Indices, Floats]] = []
        while len(waiting_W):
            z_W = (mean_K[waiting_W] - target) / spread_K[waiting_W]
            order_W = np.argsort(-z_W)
            if threshold > -np.inf:
                n_better_W = self._size_K[waiting_W] * ndtr(z_W)
                n_missed_W = n_better_W[order_W][::-1].cumsum()[::-1]
                order_W = order_W[n_missed_W > self._max_missed * k]
            if not len(order_W):
                break
            chosen = order_W[:n_clusters]
            item_S, score_S = self._score(query_C, waiting_W[chosen].tolist())
            parts.append((item_S, score_S))
            best = _largest(np.concatenate([best, score_S[usable_N[item_S]]]), k)
            if len(best) == k:
                target = threshold = float(best.min())
            waiting_W = np.delete(waiting_W, chosen)
            n_clusters *= 2
        items, scores = zip(*parts, strict=True)
        return np.concatenate(items), np.concatenate(scores), waiting_W, threshold

    def _score(self, query_C: Floats, clusters: list[int]) -> tuple[Indices, Floats]:
        n = len(query_C)
        scores = [query_C @ self._blocks[cluster][:n] for cluster in clusters]
        return np.concatenate([self._items[c] for c in clusters]), np.concatenate(scores)


def _largest(x: Floats, k: int) -> Floats:
    return np.partition(x, len(x) - k)[len(x) - k :] if len(x) > k else x


def _log_sum_exp(
    score_S: Floats, size_W: Indices, mean_W: Floats, spread_W: Floats, threshold: float
) -> float:
    """The scores of a cluster that was not scored are normal, and below the threshold."""
    top = max(score_S.max(initial=-np.inf), mean_W.max(initial=-np.inf))
    variance_W = np.square(spread_W)
    log_share_W = log_ndtr((threshold - mean_W - variance_W) / spread_W)
    total = np.exp(score_S - top).sum(dtype=np.float64)
    total += (size_W * np.exp(mean_W - top + variance_W / 2 + log_share_W)).sum()
    return float(top + np.log(total)) if total else 0.0
