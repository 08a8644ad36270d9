"""Vectors of items, and what they say of similarity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class ItemEmbeddings:
    """Item vectors fitted to co-occurrence counts."""

    vectors: NDArray[np.float32]
    """One row per item, [n_items, dim]; zero for items that co-occur with none."""
    items: Vocabulary
    loss: float
    """Σ_{i≠j} (v_iᵀv_j − X_ij)² at the end of the fit."""
    relative_loss: float
    """The loss over Σ X_ij²."""

    @property
    def dim(self) -> int:
        """Length of each vector."""
        return int(self.vectors.shape[1])

    def unit_vectors(self) -> NDArray[np.float32]:
        """The vectors scaled to length one (zero vectors stay zero), [n_items, dim]."""
        norms = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return (self.vectors / np.where(norms > 0, norms, 1)).astype(np.float32)

    def neighbours(
        self, k: int, block: int = 1024
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The k items nearest to each item by cosine, itself left out.

        Cosine rather than the dot product, which lists the same blockbusters for every item.

        Args:
            k: how many.
            block: rows computed at once, to bound memory.

        Returns:
            Item indices and cosines, best first, both [n_items, k]. Index -1 and cosine 0 fill
            the row of an item without a vector, or where the catalogue has no more items.
        """
        unit_ND = self.unit_vectors()
        has_vector: NDArray[np.bool_] = np.any(unit_ND != 0, axis=1)
        n_items = len(unit_ND)
        index = np.full((n_items, k), -1, dtype=np.int32)
        cosine = np.zeros((n_items, k), dtype=np.float32)
        width = min(k, max(int(has_vector.sum()) - 1, 0))
        for start in range(0, n_items, block):
            rows = start + np.flatnonzero(has_vector[start : start + block])
            scores_BN = unit_ND[rows] @ unit_ND.T
            scores_BN[:, ~has_vector] = -np.inf
            scores_BN[np.arange(len(rows)), rows] = -np.inf
            best = top_k(scores_BN, width)
            index[rows, :width] = best
            cosine[rows, :width] = np.take_along_axis(scores_BN, best, axis=1)
        return index, cosine


def top_k(scores_BN: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Column indices of the k largest scores of each row, best first, ties by index, [B, k]."""
    n_items = scores_BN.shape[1]
    if k >= n_items:
        return np.argsort(-scores_BN, axis=1, kind="stable")
    best = np.empty((len(scores_BN), k), dtype=np.int64)
    if k == 0:
        return best
    for row, scores in enumerate(scores_BN):
        # All that reach the k-th largest value: a partition alone would break ties at random.
        candidates = np.flatnonzero(scores >= np.partition(scores, n_items - k)[n_items - k])
        best[row] = candidates[np.argsort(-scores[candidates], kind="stable")[:k]]
    return best
