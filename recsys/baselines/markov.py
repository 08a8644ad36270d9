"""What most often came next after the item watched last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.baselines.popularity import fit_popularity
from recsys.data import Interactions


@dataclass(frozen=True, eq=False)
class MarkovChain:
    """Ranks items by how often they followed the last one; popularity breaks ties.

    A first-order Markov chain over items, its transition probabilities estimated by counting.
    Only the order of the items matters to a ranking, so that it is the order that is kept:
    exact for any counts, which a sum of count and scaled popularity in float32 is not.
    """

    successors: sp.csr_array
    """Row i has for each item that followed i its place from below, from one on,
    [n_items, n_items]."""
    popularity: NDArray[np.float32]
    """The place from below of each item by popularity, scaled into [0, 1), [n_items]."""

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Places of items, the highest most likely, [B, n_items]."""
        scores = np.tile(self.popularity, (len(histories), 1))
        rows = np.flatnonzero([len(history) for history in histories])
        last = np.array([history[-1] for history in histories if len(history)], dtype=np.int64)
        followed = self.successors[last].tocoo()
        of_row, items = followed.coords
        scores[rows[of_row], items] = followed.data
        return scores


def fit_markov_chain(interactions: Interactions) -> MarkovChain:
    """Count how often each item came right after each other one, in one user's history."""
    n_items = interactions.n_items
    items, users = interactions.item_index, interactions.user_index
    together = users[1:] == users[:-1]
    keys = items[:-1][together].astype(np.int64) * n_items + items[1:][together]
    pairs, counts = np.unique(keys, return_counts=True)
    before, after = np.divmod(pairs, n_items)

    # Of equally popular items the one with the lower index is ahead, as in every ranking.
    by_popularity = np.lexsort((-np.arange(n_items), fit_popularity(interactions).counts))
    place = np.empty(n_items, dtype=np.int64)
    place[by_popularity] = np.arange(n_items)
    order = np.lexsort((place[after], counts, before))
    before, after = before[order], after[order]
    offsets = np.searchsorted(before, np.arange(n_items + 1))
    ranks = (1 + np.arange(len(before)) - offsets[before]).astype(np.float32)
    successors = sp.csr_array((ranks, after, offsets), shape=(n_items, n_items))
    successors.sort_indices()
    return MarkovChain(successors, (place / max(n_items, 1)).astype(np.float32))
