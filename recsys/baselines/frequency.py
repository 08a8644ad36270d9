"""Baselines that count: popularity, recent popularity, and a first-order Markov chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from recsys.baselines.base import DotProduct
from recsys.config import Config
from recsys.data import Interactions
from recsys.errors import DataError

_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, eq=False, repr=False)
class Popularity(DotProduct):
    """Scores every item by its number of interactions, for every history."""

    @classmethod
    def from_counts(cls, counts: NDArray[Any]) -> Popularity:
        """Create from the count, or the summed weights, of each item, [n_items]."""
        return cls(counts.astype(np.float32)[:, None])

    @property
    def counts(self) -> NDArray[np.float32]:
        """The count, or the summed weights, of each item, [n_items]."""
        return self.item_vectors[:, 0]

    def user_vectors(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Ones, [B, 1]."""
        return np.ones((len(histories), 1), dtype=np.float32)


def fit_popularity(interactions: Interactions) -> Popularity:
    """Count the interactions of each item."""
    counts = np.bincount(interactions.item_index, minlength=interactions.n_items)
    return Popularity.from_counts(counts)


class RecentPopularityConfig(Config):
    """Configuration of recent popularity."""

    half_life_days: float = Field(default=90.0, gt=0)
    """Age in days at which an interaction has weight 1/2."""


def fit_recent_popularity(
    interactions: Interactions, config: RecentPopularityConfig | None = None
) -> Popularity:
    """Sum the interactions of each item, weighted by 2^(−age / half-life) at the latest timestamp.

    Raises:
        DataError: The interactions have no timestamps.
    """
    config = config or RecentPopularityConfig()
    if interactions.timestamp is None:
        raise DataError(
            "recent popularity needs timestamps, but the interactions have no timestamp column: "
            "add it, or use popularity"
        )
    ages = (interactions.timestamp.max(initial=0) - interactions.timestamp) / _SECONDS_PER_DAY
    weights = np.exp2(-ages / config.half_life_days)
    counts = np.bincount(interactions.item_index, weights, minlength=interactions.n_items)
    return Popularity.from_counts(counts)


@dataclass(frozen=True, eq=False, repr=False)
class MarkovChain:
    """Ranks items by how often they followed the last item of the history; ties by popularity.

    A first-order Markov chain whose transition probabilities are estimated by counting. Scores
    are ranks and not counts, because a float32 sum of count and scaled popularity is not exact.
    """

    successors: sp.csr_array
    """Entry (i, j): ascending rank, from 1, of j among the items that followed i,
    [n_items, n_items]."""
    popularity: NDArray[np.float32]
    """Ascending rank of each item by popularity, scaled to [0, 1), [n_items]."""

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Ranks of the items, higher is more likely, [B, n_items]."""
        scores = np.tile(self.popularity, (len(histories), 1))
        rows = np.flatnonzero([len(history) for history in histories])
        last = np.array([history[-1] for history in histories if len(history)], dtype=np.int64)
        followers = self.successors[last].tocoo()
        row, items = followers.coords
        scores[rows[row], items] = followers.data
        return scores


@dataclass(frozen=True, eq=False, repr=False)
class UserItems:
    """Ranks the items of the history first, then all others by popularity.

    For data in which items repeat, where these are strong baselines (Ren et al. 2019, "RepeatNet").
    """

    by_count: bool
    """Whether items are ranked by their number of occurrences, ties by recency; otherwise the
    latest comes first."""
    popularity: NDArray[np.float32]
    """Ascending rank of each item by popularity, scaled to [0, 1), [n_items]."""

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Ranks of the items, higher is more likely, [B, n_items]."""
        scores = np.tile(self.popularity, (len(histories), 1))
        for row, history in zip(scores, histories, strict=True):
            items, age, counts = np.unique(history[::-1], return_index=True, return_counts=True)
            order = np.lexsort((-age, counts)) if self.by_count else np.argsort(-age)
            row[items[order]] = 1.0 + np.arange(len(items))
        return scores


def fit_user_items(interactions: Interactions, *, by_count: bool) -> UserItems:
    """Rank the items by popularity, for what is not in a history."""
    return UserItems(by_count, _relative_popularity(interactions))


def fit_markov_chain(interactions: Interactions) -> MarkovChain:
    """Count how often each item directly followed each other item in the history of a user."""
    n_items = interactions.n_items
    items, users = interactions.item_index, interactions.user_index
    same_user = users[1:] == users[:-1]
    keys = items[:-1][same_user].astype(np.int64) * n_items + items[1:][same_user]
    pairs, counts = np.unique(keys, return_counts=True)
    before, after = np.divmod(pairs, n_items)

    rank = _relative_popularity(interactions)
    order = np.lexsort((rank[after], counts, before))
    before, after = before[order], after[order]
    offsets = np.searchsorted(before, np.arange(n_items + 1))
    ranks = (1 + np.arange(len(before)) - offsets[before]).astype(np.float32)
    successors = sp.csr_array((ranks, after, offsets), shape=(n_items, n_items))
    successors.sort_indices()
    return MarkovChain(successors, rank)


def _relative_popularity(interactions: Interactions) -> NDArray[np.float32]:
    """Ascending rank of each item by popularity, scaled to [0, 1), [n_items]."""
    n_items = interactions.n_items
    # Of equally popular items, the lower index ranks higher.
    by_popularity = np.lexsort((-np.arange(n_items), fit_popularity(interactions).counts))
    rank = np.empty(n_items, dtype=np.int64)
    rank[by_popularity] = np.arange(n_items)
    return (rank / max(n_items, 1)).astype(np.float32)
