"""Item-based nearest neighbours: items with the same users as those of the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from recsys.baselines.base import Recency, history_matrix
from recsys.config import Config
from recsys.cooccurrence import keep_top_k
from recsys.data import Interactions

Weights = NDArray[np.float64]

_BLOCK_PAIRS = 8_000_000
"""Pairs of items whose similarities are computed at once: at most half a gigabyte."""


class ItemKNNConfig(Config):
    """Configuration of item-kNN."""

    weighting: Literal["cosine", "bm25", "tfidf"] = "cosine"
    """Weights of users and items in the similarity."""

    n_neighbours: int | None = Field(default=100, ge=1)
    """Number of nearest neighbours kept for each item. None: all."""

    recency: Recency = Recency(last=5, decay=0.8)
    """Which interactions are used: recent ones predict the next item best."""


@dataclass(frozen=True, eq=False, repr=False)
class ItemKNN:
    """Scores an item by its summed similarity to the items of the history.

    Sarwar et al. 2001, "Item-based collaborative filtering recommendation algorithms".
    """

    similarity: sp.csr_array
    """Row j: similarity of j to each item that has j among its nearest, [n_items, n_items]."""
    recency: Recency

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Weighted sum of the similarities between the history and each item, [B, n_items]."""
        weights = history_matrix(histories, self.similarity.shape[1], self.recency)
        scores: NDArray[np.float32] = (weights @ self.similarity).toarray()
        return scores


def fit_item_knn(interactions: Interactions, config: ItemKNNConfig | None = None) -> ItemKNN:
    """Find the nearest neighbours of each item over all interactions, whatever their rating."""
    config = config or ItemKNNConfig()
    matrix = sp.csr_array(interactions.user_item_matrix().astype(np.float64))
    user_weights, item_weights = WEIGHTINGS[config.weighting](matrix)
    nearest = _nearest_items(matrix, user_weights, item_weights, config.n_neighbours)
    return ItemKNN(sp.csr_array(nearest.T), config.recency)


def cosine(matrix: Any) -> tuple[Weights, Weights]:
    """Cosine of the sets of users: every user has weight 1."""
    n_users, _ = matrix.shape
    return np.ones(n_users), 1.0 / np.sqrt(np.maximum(matrix.sum(axis=0), 1))


def tfidf(matrix: Any) -> tuple[Weights, Weights]:
    """Cosine that gives less weight to users of many items: idf_u = ln(n_items / (1 + n_u)).

    Salton & Buckley 1988, with items as documents and users as terms.
    """
    idf = _idf(matrix)
    norms = np.sqrt(matrix.T @ idf**2)
    return idf, 1.0 / np.where(norms > 0, norms, 1.0)


def bm25(matrix: Any, k1: float = 1.2, b: float = 0.75) -> tuple[Weights, Weights]:
    """Okapi BM25 (Robertson & Walker 1994), with items as documents and users as terms.

    The term frequency is always 1, so the saturation depends on the item alone:
    (k1 + 1) / (k1 (1 − b + b · n_i / mean n) + 1). The defaults are those of `implicit`.
    """
    lengths = matrix.sum(axis=0)
    norm = 1 - b + b * lengths / max(lengths.mean(), 1e-12)
    return _idf(matrix), (k1 + 1) / (k1 * norm + 1)


WEIGHTINGS = {"cosine": cosine, "tfidf": tfidf, "bm25": bm25}
"""Functions that return user weights w, [n_users], and item weights s, [n_items]. The similarity
of two items is s_i s_j Σ_u w_u² over their common users u."""


def _idf(matrix: Any) -> Weights:
    n_items = matrix.shape[1]
    idf: Weights = np.log(n_items) - np.log1p(matrix.sum(axis=1))
    return idf


def _nearest_items(
    matrix: Any, user_weights: Weights, item_weights: Weights, k: int | None
) -> sp.csr_array:
    """The k items most similar to each, excluding itself, float32, [n_items, n_items]."""
    n_items = matrix.shape[1]
    item_users = sp.csr_array(matrix.T)
    weighted = sp.csr_array(sp.diags_array(user_weights**2) @ matrix)
    blocks: list[Any] = [sp.csr_array((0, n_items), dtype=np.float32)]
    size = max(_BLOCK_PAIRS // max(n_items, 1), 1)
    for start in range(0, n_items, size):
        stop = min(start + size, n_items)
        common = sp.coo_array(item_users[start:stop] @ weighted)
        rows, cols = common.coords
        values = common.data * item_weights[rows + start] * item_weights[cols]
        other = rows + start != cols
        block = sp.csr_array(
            (values[other].astype(np.float32), (rows[other], cols[other])),
            shape=(stop - start, n_items),
        )
        blocks.append(block if k is None else keep_top_k(block, k))
    return sp.csr_array(sp.vstack(blocks, format="csr"))
