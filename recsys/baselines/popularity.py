"""The most watched items, for everyone: of all time, or of late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.baselines.interface import DotProduct
from recsys.config import Config
from recsys.data import Interactions
from recsys.errors import DataError

_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, eq=False)
class Popularity(DotProduct):
    """Scores every item by the number of its watches, whatever the history."""

    @classmethod
    def of(cls, counts: NDArray[Any]) -> Popularity:
        """Watches of each item, or their summed weights, [n_items], as vectors of length one."""
        return cls(counts.astype(np.float32)[:, None])

    @property
    def counts(self) -> NDArray[np.float32]:
        """Watches of each item, or their summed weights, [n_items]."""
        return self.item_vectors[:, 0]

    def user_vectors(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """The same for every history, [B, 1]."""
        return np.ones((len(histories), 1), dtype=np.float32)


def fit_popularity(interactions: Interactions) -> Popularity:
    """Count the watches of each item."""
    counts = np.bincount(interactions.item_index, minlength=interactions.n_items)
    return Popularity.of(counts)


class RecentPopularityConfig(Config):
    """How fast watches are forgotten."""

    half_life_days: float = Field(default=90.0, gt=0)
    """After so many days a watch weighs half."""


def fit_recent_popularity(
    interactions: Interactions, config: RecentPopularityConfig | None = None
) -> Popularity:
    """Sum the watches of each item, each weighing 2^(−age / half-life) at the end of the log.

    Raises:
        DataError: the log has no timestamps.
    """
    config = config or RecentPopularityConfig()
    if interactions.timestamp is None:
        raise DataError(
            "recent popularity needs to know when each item was watched, but the ratings have no "
            "timestamp: add the column, or use popularity"
        )
    ages = (interactions.timestamp.max(initial=0) - interactions.timestamp) / _SECONDS_PER_DAY
    weights = np.exp2(-ages / config.half_life_days)
    counts = np.bincount(interactions.item_index, weights, minlength=interactions.n_items)
    return Popularity.of(counts)
