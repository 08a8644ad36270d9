"""Each pair of items once: half of X, by the shortest way.

Numbered from the most liked to the least, an item is paired with those before it only. The long
rows of the popular items then become the short ones, and of a history no more is gone over than
its rare items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config import Runtime, available_threads
from recsys.cooccurrence.config import CooccurrenceConfig
from recsys.cooccurrence.positives import likes_of
from recsys.cooccurrence.rows import RowBlock, map_blocks
from recsys.data import Interactions

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class PairBlock:
    """Some pairs of items and their counts."""

    items: NDArray[np.int64]
    """The item of each row, [n_rows]."""
    matrix: sp.csr_array
    """Counts, [n_rows, n_items]; the columns are in the order of `column_items`."""
    column_items: NDArray[np.int64]
    """The item of each column, most liked first, [n_items]."""

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
        """The one item, the other, and how many users liked both, all [n_pairs]."""
        rows = np.repeat(self.items, np.diff(self.matrix.indptr))
        return rows, self.column_items[self.matrix.indices], self.matrix.data.copy()


def map_pairs(
    interactions: Interactions,
    use: Callable[[PairBlock], T],
    min_rating: float | None = CooccurrenceConfig().min_rating,
    *,
    runtime: Runtime | None = None,
) -> Iterator[T]:
    """Count how many users liked both of two items, each pair once, block by block.

    Args:
        interactions: who rated what.
        use: called with each block, in several threads; what it gives back is yielded. A block
            does not outlast the call: take `pairs()` of it, or copy.
        min_rating: the lowest rating that counts as "liked".
        runtime: for the number of threads.

    Raises:
        DataError: there are no interactions, or no rating reaches `min_rating`.
    """
    from recsys.cooccurrence.sets import SetRows
    from recsys.cooccurrence.sorting import count_values

    likes, threads = likes_of(interactions, min_rating), available_threads(runtime)
    order = np.argsort(-count_values(likes.histories, likes.n_items), kind="stable")
    place = np.empty(likes.n_items, np.int32)
    place[order] = np.arange(likes.n_items, dtype=np.int32)
    rows = SetRows(likes.positives(threads, place), lower=True, threads=threads)

    def use_pairs(block: RowBlock) -> T:
        return use(PairBlock(order[block.start : block.stop], block.matrix, order))

    yield from map_blocks(rows, use_pairs, threads=threads)
