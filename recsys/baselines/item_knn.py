"""Items whose watchers overlap with those of the watched items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from recsys.baselines.histories import Recency, history_matrix
from recsys.config import Config
from recsys.cooccurrence import keep_top_k
from recsys.data import Interactions

Weights = NDArray[np.float64]


class ItemKNNConfig(Config):
    """How similarity is measured, and whose speaks."""

    weighting: Literal["cosine", "bm25", "tfidf"] = "cosine"
    """How much a common watcher says of two items."""

    n_neighbours: int | None = Field(default=100, ge=1)
    """How many of its nearest items each item keeps; None keeps all."""

    recency: Recency = Recency(last=5, decay=0.8)
    """Which watches speak. The last few, since what comes next follows what was just watched."""


@dataclass(frozen=True, eq=False)
class ItemKNN:
    """Scores an item by its summed similarity to the watched items.

    Sarwar et al. 2001, "Item-based collaborative filtering recommendation algorithms".
    """

    similarity: sp.csr_array
    """Row j holds how similar j is to each item that has it among its nearest,
    [n_items, n_items]."""
    recency: Recency

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Σ over the watched items j of the weighted similarity to each item, [B, n_items]."""
        watched = history_matrix(histories, self.similarity.shape[1], self.recency)
        scores: NDArray[np.float32] = (watched @ self.similarity).toarray()
        return scores


def fit_item_knn(interactions: Interactions, config: ItemKNNConfig | None = None) -> ItemKNN:
    """Find the nearest items of each item over all watches, liked or not."""
    config = config or ItemKNNConfig()
    watched = sp.csr_array(interactions.user_item_matrix().astype(np.float64))
    users, items = WEIGHTINGS[config.weighting](watched)
    nearest = _nearest(watched, users, items, config.n_neighbours)
    return ItemKNN(sp.csr_array(nearest.T), config.recency)


def cosine(watched: Any) -> tuple[Weights, Weights]:
    """Cosine of the sets of watchers: every user weighs one."""
    n_users, _ = watched.shape
    return np.ones(n_users), 1.0 / np.sqrt(np.maximum(watched.sum(axis=0), 1))


def tfidf(watched: Any) -> tuple[Weights, Weights]:
    """Cosine where a user of many items weighs less: idf_u = ln(n_items / (1 + n_u)).

    Salton & Buckley 1988, with items as documents and their watchers as terms.
    """
    idf = _idf(watched)
    norms = np.sqrt(watched.T @ idf**2)
    return idf, 1.0 / np.where(norms > 0, norms, 1.0)


def bm25(watched: Any, k1: float = 1.2, b: float = 0.75) -> tuple[Weights, Weights]:
    """Okapi BM25 (Robertson & Walker 1994), with items as documents and watchers as terms.

    A watched item's term frequency is one, so that the saturation depends on the item alone:
    (k1 + 1) / (k1 (1 − b + b · n_i / mean n) + 1). Its default k1 and b are those of `implicit`.
    """
    lengths = watched.sum(axis=0)
    norm = 1 - b + b * lengths / max(lengths.mean(), 1e-12)
    return _idf(watched), (k1 + 1) / (k1 * norm + 1)


WEIGHTINGS = {"cosine": cosine, "tfidf": tfidf, "bm25": bm25}
"""Each gives the weights of users w, [n_users], and of items s, [n_items]: the similarity of two
items is s_i s_j Σ_u w_u² over their common watchers u."""


def _idf(watched: Any) -> Weights:
    n_items = watched.shape[1]
    idf: Weights = np.log(n_items) - np.log1p(watched.sum(axis=1))
    return idf


_BLOCK = 1024
"""Items whose similarities to all others are held at once."""


def _nearest(watched: Any, users: Weights, items: Weights, k: int | None) -> sp.csr_array:
    """The k items most similar to each, never itself, float32, [n_items, n_items]."""
    n_items = watched.shape[1]
    watchers = sp.csr_array(watched.T)
    weighted = sp.csr_array(sp.diags_array(users**2) @ watched)
    blocks: list[Any] = [sp.csr_array((0, n_items), dtype=np.float32)]
    for start in range(0, n_items, _BLOCK):
        stop = min(start + _BLOCK, n_items)
        common = sp.coo_array(watchers[start:stop] @ weighted)
        rows, cols = common.coords
        values = (common.data * items[rows + start] * items[cols]).astype(np.float32)
        other = rows + start != cols
        block = sp.csr_array(
            (values[other], (rows[other], cols[other])), shape=(stop - start, n_items)
        )
        blocks.append(block if k is None else keep_top_k(block, k))
    return sp.csr_array(sp.vstack(blocks, format="csr"))
