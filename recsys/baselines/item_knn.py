"""Items whose watchers overlap with those of the watched items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from recsys.baselines.histories import history_matrix
from recsys.config import Config
from recsys.cooccurrence import cosine, count_cooccurrence, keep_top_k
from recsys.data import Interactions


class ItemKNNConfig(Config):
    """How many neighbours speak."""

    n_neighbours: int = Field(default=100, ge=1)
    """How many of its nearest items each item keeps."""


@dataclass(frozen=True, eq=False)
class ItemKNN:
    """Scores an item by its summed similarity to the watched items.

    Sarwar et al. 2001, "Item-based collaborative filtering recommendation algorithms", with
    cosine similarity of the sets of watchers.
    """

    similarity: sp.csr_array
    """Row i holds the nearest items of i, [n_items, n_items]."""

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Σ over the watched items j of the similarity of each item i to j, [B, n_items]."""
        watched = history_matrix(histories, self.similarity.shape[1])
        scores: NDArray[np.float32] = (watched @ self.similarity.T).toarray()
        return scores


def fit_item_knn(interactions: Interactions, config: ItemKNNConfig | None = None) -> ItemKNN:
    """Find the nearest items of each item by cosine over all watches, liked or not."""
    config = config or ItemKNNConfig()
    similarity = cosine(count_cooccurrence(interactions, min_rating=None))
    return ItemKNN(keep_top_k(similarity, config.n_neighbours))
