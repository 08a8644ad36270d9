"""The most watched items, for everyone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.data import Interactions


@dataclass(frozen=True, eq=False)
class Popularity:
    """Scores every item by the number of its watches."""

    counts: NDArray[np.float32]
    """Watches of each item, [n_items]."""

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """The same counts for every history, [B, n_items]."""
        return np.tile(self.counts, (len(histories), 1))


def fit_popularity(interactions: Interactions) -> Popularity:
    """Count the watches of each item."""
    counts = np.bincount(interactions.item_index, minlength=interactions.n_items)
    return Popularity(counts.astype(np.float32))
