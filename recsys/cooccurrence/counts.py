"""The co-occurrence matrix X_ij and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.cooccurrence.config import Window
from recsys.vocabulary import Vocabulary


class Marginals(NamedTuple):
    """How often each item occurs at all, in the terms of the counts: what weightings divide by.

    Where histories are sets, an item occurs once for each user who liked it, of all users. Within
    a window, it occurs as often as it is part of a pair, of all pairs (Levy & Goldberg 2014, §2).
    """

    rows: NDArray[np.float64]
    """Occurrences of i as the row of X_ij, [n_items]."""
    columns: NDArray[np.float64]
    """Occurrences of j as the column of X_ij, [n_items]; the same where X is symmetric."""
    total: float
    """Of how many."""


@dataclass(frozen=True, eq=False)
class Cooccurrence:
    """Item-item co-occurrence counts."""

    matrix: sp.csr_array
    """X_ij, [n_items, n_items], zero diagonal, columns ascending. By default the number of users
    who liked both i and j: symmetric, int32. With user weights or a window int64, or float64 if
    decayed; symmetric unless the window looks one way."""
    item_counts: NDArray[np.int64]
    """How many users liked each item, or the sum of their weights, [n_items]."""
    n_users: int
    """How many users there are, or the sum of their weights."""
    min_rating: float | None
    items: Vocabulary
    window: Window | None = None
    """Within which window pairs were counted; None for whole histories."""
    is_weighted: bool = False
    """Whether users had weights."""

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return len(self.items)

    @property
    def is_symmetric(self) -> bool:
        """Whether X_ij = X_ji by definition."""
        return self.window is None or self.window.direction == "symmetric"

    def marginals(self) -> Marginals:
        """How often each item occurs at all."""
        if self.window is None:
            return set_marginals(self.item_counts, self.n_users)
        rows = np.asarray(self.matrix.sum(axis=1), np.float64)
        columns = np.asarray(self.matrix.sum(axis=0), np.float64)
        return Marginals(rows, columns, float(rows.sum()))

    def summary(self) -> dict[str, float]:
        """Size and density of the matrix."""
        pairs = self.matrix.nnz / 2 if self.is_symmetric else self.matrix.nnz
        return {
            "positive_items": float(np.count_nonzero(self.item_counts)),
            "positive_interactions": float(self.item_counts.sum()),
            "pairs": pairs,
            "density": self.matrix.nnz / max(self.n_items * (self.n_items - 1), 1),
        }


def set_marginals(item_counts: NDArray[np.int64], n_users: int) -> Marginals:
    """Where histories are sets: how many users have each item, of all users."""
    occurrences = item_counts.astype(np.float64)
    return Marginals(occurrences, occurrences, float(n_users))
