"""How many users liked both of two items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config import Config
from recsys.data import Interactions
from recsys.errors import DataError
from recsys.vocabulary import Vocabulary


class CooccurrenceConfig(Config):
    """What counts as liking an item."""

    min_rating: float | None = 4.0
    """The lowest rating that counts as "liked"; None counts every row, as does data without
    ratings."""


@dataclass(frozen=True, eq=False)
class Cooccurrence:
    """Item-item co-occurrence counts."""

    matrix: sp.csr_array
    """X_ij, the number of users who liked both i and j: symmetric, zero diagonal, int32,
    [n_items, n_items]."""
    item_counts: NDArray[np.int64]
    """How many users liked each item, [n_items]."""
    n_users: int
    min_rating: float | None
    items: Vocabulary

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return len(self.items)

    def summary(self) -> dict[str, float]:
        """Size and density of the matrix."""
        return {
            "liked_items": float(np.count_nonzero(self.item_counts)),
            "liked_interactions": float(self.item_counts.sum()),
            "pairs": self.matrix.nnz / 2,
            "density": self.matrix.nnz / max(self.n_items * (self.n_items - 1), 1),
        }


def count_cooccurrence(
    interactions: Interactions, min_rating: float | None = CooccurrenceConfig().min_rating
) -> Cooccurrence:
    """Count, for each pair of items, the users who liked both.

    Args:
        interactions: who rated what.
        min_rating: the lowest rating that counts as "liked"; None counts every row, as does
            data without ratings.

    Raises:
        DataError: no rating reaches `min_rating`.

    Example:
        >>> import pandas as pd
        >>> from recsys.data import read_ratings
        >>> log = pd.DataFrame({
        ...     "user_id": [1, 1, 1, 2, 2, 2],
        ...     "item_id": [7, 8, 9, 7, 8, 9],
        ...     "rating":  [5, 4, 1, 4, 5, 5],
        ... })
        >>> count_cooccurrence(read_ratings(log)).matrix.toarray().tolist()
        [[0, 2, 1], [2, 0, 1], [1, 1, 0]]
    """
    liked = interactions
    if min_rating is not None and interactions.rating is not None:
        liked = interactions.keep(interactions.rating >= min_rating)
        if not len(liked):
            raise DataError(
                f"no rating is {min_rating} or higher (the highest is "
                f"{interactions.rating.max(initial=0):g}); lower min_rating"
            )
    user_item = liked.user_item_matrix()
    matrix = (user_item.T @ user_item).tocsr()
    item_counts = matrix.diagonal().astype(np.int64)
    matrix.setdiag(0)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return Cooccurrence(
        matrix=matrix,
        item_counts=item_counts,
        n_users=interactions.n_users,
        min_rating=None if interactions.rating is None else min_rating,
        items=interactions.items,
    )
