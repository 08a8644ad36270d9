"""The clusters of a large catalogue, with which an `InvertedFile` answers; made with the bundle.

Shapes: N items, C features of the logits, B histories, D query vector of the session model.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.embeddings import ItemEmbeddings
from recsys.recommender.catalogue import Floats
from recsys.recommender.filters import RecommendOptions
from recsys.recommender.inverted_file import Clusters
from recsys.recommender.scoring import Histories, ItemScorer, RankedItems
from recsys.sessions import Weights

MIN_RECALL: Final = 0.99
"""Recall at 10 below which all items are scored instead."""

_TARGET_RECALL: Final = 0.995
"""With a margin, so that other histories than those of the sample reach `MIN_RECALL`."""

_MAX_MISSED: Final = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
"""Values of `Clusters.max_missed`, of which the first one with this recall is used."""

_K: Final = 10
_CLUSTERS_PER_ROOT: Final = 4
"""Number of clusters, as a multiple of the square root of that of the items."""

_SAMPLE: Final = 500
"""Histories to fit to, and others to measure with."""


def cluster_items(
    embeddings: ItemEmbeddings, weights: Weights, sample: Histories
) -> tuple[Clusters | None, dict[str, float]]:
    """Cluster the items, and compare the answers with those that score all items.

    Args:
        embeddings: The item embeddings.
        weights: The parameters of the session model.
        sample: At least two histories such as those of requests.

    Returns:
        The clusters, or None if recall is below `MIN_RECALL`; and metrics. These are
        `recall_at_10`, the lower one of whole histories and of their latest items alone, and
        `probability_error`, the mean relative error of the probabilities.
    """
    exact = ItemScorer(embeddings, weights)
    rows = np.random.default_rng(0).permutation(len(sample))[: 2 * _SAMPLE].tolist()
    measured, fitted = ([sample[row] for row in half] for half in (rows[::2], rows[1::2]))
    queries_BD = exact.encode_batch(fitted)
    features = exact.model.item_embeddings_ND, exact.model.item_bias_N[:, None]
    ones_B1 = np.ones((len(queries_BD), 1), np.float32)
    cluster_N = _k_means(np.hstack(features), np.hstack([queries_BD, ones_B1]))
    groups = [_Expected(exact, h) for h in (measured, [history[-1:] for history in measured])]
    for max_missed in _MAX_MISSED:
        clusters = Clusters(cluster_N, max_missed)
        scorer = ItemScorer(embeddings, weights, clusters)
        recalls, errors = zip(*(group.compare(scorer) for group in groups), strict=True)
        if min(recalls) >= _TARGET_RECALL:
            break
    metrics = {f"recall_at_{_K}": min(recalls), "probability_error": max(errors)}
    return clusters if min(recalls) >= MIN_RECALL else None, metrics


def _k_means(features_NC: Floats, queries_BC: Floats) -> NDArray[np.int32]:
    """Clusters of items with similar scores: a distance is the root mean square difference."""
    from sklearn.cluster import MiniBatchKMeans  # slow to import

    second_moment_CC = queries_BC.T.astype(np.float64) @ queries_BC / len(queries_BC)
    values_C, vectors_CC = np.linalg.eigh(second_moment_CC)
    scaled_NC = features_NC @ (vectors_CC * np.sqrt(values_C.clip(0))).astype(np.float32)
    n_clusters = int(_CLUSTERS_PER_ROOT * len(features_NC) ** 0.5)
    k_means = MiniBatchKMeans(
        n_clusters, batch_size=8192, n_init=1, init_size=3 * n_clusters, random_state=0
    )
    found = k_means.fit_predict(scaled_NC)
    return np.unique(found, return_inverse=True)[1].astype(np.int32)


class _Expected:
    """Histories, and the answers to them that score all items."""

    def __init__(self, exact: ItemScorer, histories: Histories) -> None:
        self._histories = histories
        self._query_BD = exact.encode_batch(histories)
        self._answers = self._rank(exact)

    def _rank(self, scorer: ItemScorer) -> RankedItems:
        return scorer.rank_batch(self._query_BD, self._histories, RecommendOptions(_K))

    def compare(self, scorer: ItemScorer) -> tuple[float, float]:
        """Recall of another scorer, and the relative error of its probabilities."""
        expected, found = self._answers, self._rank(scorer)
        n_items = np.int64(scorer.model.n_items)
        a, b = (ranked.row * n_items + ranked.item for ranked in (expected, found))
        _, in_a, in_b = np.intersect1d(a, b, assume_unique=True, return_indices=True)
        ratio = found.probability[in_b] / expected.probability[in_a]
        return len(in_a) / len(a), float(np.abs(ratio - 1).mean())
