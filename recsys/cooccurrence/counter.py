"""What stands between the interactions and the rows of X: which way to count, and with what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys.config import Runtime, available_threads
from recsys.cooccurrence.config import Window
from recsys.cooccurrence.counts import Marginals, set_marginals
from recsys.cooccurrence.plan import Budget
from recsys.cooccurrence.positives import Likes, Positives, likes_of
from recsys.cooccurrence.rows import RowBlock, RowCounter, map_blocks
from recsys.cooccurrence.sizes import Forecast, budget_within, fixed_bytes, forecast
from recsys.data import Interactions
from recsys.errors import DataError
from recsys.vocabulary import Vocabulary

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Counter:
    """Counts rows of X; nothing is counted before it is asked for."""

    rows: RowCounter
    item_counts: NDArray[np.int64]
    """How many users liked each item, or the sum of their weights, [n_items]."""
    n_users: int
    """How many users there are, or the sum of their weights."""
    min_rating: float | None
    items: Vocabulary
    window: Window | None
    is_weighted: bool
    threads: int
    budget: Budget
    fixed_bytes: int
    """Memory that is taken in any case."""

    def map_blocks(self, use: Callable[[RowBlock], T]) -> Iterator[T]:
        """What `use` makes of each block of rows, in order; a block that shall last is copied."""
        return map_blocks(self.rows, use, threads=self.threads, entries=self.budget.block_entries)

    def marginals(self) -> Marginals:
        """How often each item occurs at all; for a window, X is counted to know."""
        if self.window is None:
            return set_marginals(self.item_counts, self.n_users)
        rows, columns = np.zeros(self.rows.n_items), np.zeros(self.rows.n_items)
        for block, of_rows, of_columns in self.map_blocks(_sums):
            rows[block] = of_rows
            columns += of_columns
        unit = self.rows.unit
        return Marginals(rows * unit, columns * unit, float(rows.sum()) * unit)

    def forecast(self) -> Forecast:
        """What counting will take."""
        return forecast(self.rows, self.fixed_bytes, self.budget, self.threads)


def _sums(block: RowBlock) -> tuple[slice, NDArray[Any], NDArray[Any]]:
    rows = slice(block.start, block.stop)
    return rows, block.matrix.sum(axis=1), block.matrix.sum(axis=0)


def make_counter(
    interactions: Interactions,
    min_rating: float | None,
    *,
    window: Window | None = None,
    user_weights: NDArray[Any] | None = None,
    memory_limit: int | None = None,
    runtime: Runtime | None = None,
) -> Counter:
    """Choose how to count.

    Args:
        interactions: who rated what.
        min_rating: the lowest rating that counts.
        window: count pairs within a window; None counts users who have both items.
        user_weights: how much each user counts, whole numbers from 0, [n_users].
        memory_limit: the most bytes that counting may take beside the interactions.
        runtime: for the number of threads.

    Raises:
        DataError: nothing counts, or a setting does not fit the data.
        ConfigError: memory_limit is not enough.
    """
    likes = likes_of(interactions, min_rating)
    threads = available_threads(runtime)
    by_event = window is not None or user_weights is not None
    n_likes = len(likes.histories.values)
    fixed = fixed_bytes(n_likes, likes.n_users, likes.n_items, by_event)
    budget = budget_within(memory_limit, fixed, likes.n_items, threads)
    positives = likes.positives(threads)
    weights = None if user_weights is None else checked_weights(user_weights, likes.n_users)
    return Counter(
        rows=_rows(likes, positives, window, weights, budget, threads),
        item_counts=_item_counts(positives, weights),
        n_users=likes.n_users if weights is None else sum(weights.tolist()),
        min_rating=None if interactions.rating is None else min_rating,
        items=interactions.items,
        window=window,
        is_weighted=user_weights is not None,
        threads=threads,
        budget=budget,
        fixed_bytes=fixed,
    )


def _rows(
    likes: Likes,
    positives: Positives,
    window: Window | None,
    weights: NDArray[np.int64] | None,
    budget: Budget,
    threads: int,
) -> RowCounter:
    from recsys.cooccurrence.sets import SetRows
    from recsys.cooccurrence.windows import EventRows

    if window is not None:
        return EventRows(likes.histories, likes.n_items, window, likes.timestamp, weights)
    if weights is not None:
        # Sets, as histories in which everything is within reach of everything.
        everything = Window(size=max(int(positives.by_user.lengths.max()), 1))
        return EventRows(
            positives.by_user, likes.n_items, everything, user_weights=weights, is_set=True
        )
    return SetRows(positives, max_head_bytes=budget.head_bytes, threads=threads)


def _item_counts(positives: Positives, weights: NDArray[np.int64] | None) -> NDArray[np.int64]:
    if weights is None:
        return positives.by_item.lengths
    from recsys.cooccurrence.kernels import sum_over

    return sum_over(positives.by_item, weights)


def checked_weights(weights: NDArray[Any], n_users: int) -> NDArray[np.int64]:
    """The weights as whole numbers, [n_users].

    Raises:
        DataError: they are negative, not whole, or not one for each user.
    """
    weights = np.asarray(weights)
    if weights.shape != (n_users,):
        raise DataError(
            f"user_weights has the shape {weights.shape}; there must be one for each user, "
            f"({n_users},)"
        )
    if not np.issubdtype(weights.dtype, np.integer) or (weights < 0).any():
        raise DataError("user_weights must be whole numbers from 0: counts are exact sums of them")
    if sum(weights.tolist()) >= 2**63:
        raise DataError("user_weights sum up to more than 2⁶³: lower them")
    return weights.astype(np.int64)
