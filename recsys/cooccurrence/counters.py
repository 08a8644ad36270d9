"""Counters of rows of X: from whole histories as sets, or from pairs of events in a window.

Importing this module imports numba.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.cooccurrence import kernels
from recsys.cooccurrence.config import Window
from recsys.cooccurrence.matrix import CsrBuffers, EventWeights, RaggedArray
from recsys.errors import DataError

_SPARSE_ROW: Final = 6
"""A row is sparse if its entries, with repetitions, are less than a sixth of the catalogue."""
_DAY: Final = 86_400.0
_EXACT: Final = 2**53
"""Integers below this are exact as float64."""


@dataclass(frozen=True, eq=False)
class RowCounter:
    """Counts any rows of X; several threads may use it at once."""

    item_counts: NDArray[np.int64]
    """Number of users of each item, [n_items]."""
    max_entries: NDArray[np.int64]
    """Upper bound of the number of entries of each row, [n_items]."""
    index: kernels.SetIndex | kernels.WindowIndex | kernels.WeightedIndex
    weights: EventWeights | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the counts, an integer, so that sums do not depend on the order."""
        return np.dtype(np.int32 if isinstance(self.index, kernels.SetIndex) else np.int64)

    def count_rows(self, start: int, stop: int, buffers: CsrBuffers) -> None:
        """Count rows `start` to `stop`, columns ascending, zeros left out."""
        if isinstance(self.index, kernels.SetIndex):
            kernels.count_set_rows(start, stop, self.index, buffers)
        elif isinstance(self.index, kernels.WeightedIndex):
            kernels.count_weighted_rows(start, stop, self.index, buffers)
        else:
            kernels.count_window_rows(start, stop, self.index, buffers)


def set_counter(histories: RaggedArray, n_items: int, threads: int = 1) -> RowCounter:
    """A counter of sets: X_ij is the number of users who have both i and j.

    Row i is the sum, over the users of i, of the items that they have.
    """
    by_user = sort_unique(histories, n_items, threads)
    item_counts = np.bincount(by_user.values, minlength=n_items)
    offsets = np.concatenate([[0], item_counts.cumsum()])
    by_item = RaggedArray(offsets, kernels.transpose(by_user, offsets))
    costs = kernels.row_costs(by_user, n_items)
    index = kernels.SetIndex(by_item, by_user, is_sparse=costs * _SPARSE_ROW < n_items - 1)
    return RowCounter(item_counts, np.minimum(costs, n_items - 1), index)


def weighted_counter(
    histories: RaggedArray, n_items: int, weight: NDArray[np.int64], per_unit: int
) -> RowCounter:
    """A counter of weighted sets: X_ij is Σ_u w_ui·w_uj.

    w_ui is the largest weight of the events of user u with item i, in units of 1/`per_unit`.
    """
    n_users = len(histories.lengths)
    pairs = np.repeat(np.arange(n_users), histories.lengths) * n_items + histories.values
    order = np.argsort(pairs, kind="stable")
    pairs, first = np.unique(pairs[order], return_index=True)
    largest = np.maximum.reduceat(weight[order], first) if len(first) else weight
    users, items = np.divmod(pairs, n_items)
    matrix = sp.csr_array((largest, (users, items)), shape=(n_users, n_items))
    turned = matrix.T.tocsr()
    by_user, by_item = (
        RaggedArray(m.indptr.astype(np.int64), m.indices.astype(np.int32)) for m in (matrix, turned)
    )
    sums, squares = (np.asarray(m.sum(axis=0), np.int64) for m in (matrix, matrix**2))
    if n_users * int(largest.max(initial=0)) ** 2 >= _EXACT:
        raise DataError(
            f"the weights of events, in units of {1 / per_unit:g}, are too large to count "
            f"{n_users:,} users exactly: give `events` smaller weights or fewer decimals"
        )
    max_entries = np.minimum(kernels.row_costs(by_user, n_items), n_items - 1)
    index = kernels.WeightedIndex(by_item, by_user, turned.data, matrix.data)
    return RowCounter(by_item.lengths, max_entries, index, EventWeights(per_unit, sums, squares))


def sort_unique(histories: RaggedArray, n_items: int, threads: int = 1) -> RaggedArray:
    """Sort the items of each user, and remove duplicates, in the narrowest type that fits."""
    n_users = len(histories.offsets) - 1
    dtype = np.uint16 if n_items <= 2**16 else np.int32  # less memory to read is faster
    values, lengths = np.empty(len(histories.values), dtype), np.empty(n_users, np.int64)
    step = max(-(-n_users // (4 * threads)), 1)

    def sort(start: int) -> None:
        stop = min(start + step, n_users)
        kernels.sort_unique(histories, n_items, start, stop, values, lengths)

    with ThreadPoolExecutor(threads, thread_name_prefix="cooccurrence") as pool:
        list(pool.map(sort, range(0, n_users, step)))
    if lengths.sum() < len(values):
        values = kernels.gather_rows(values, histories.offsets[:-1], lengths)
    return RaggedArray(np.concatenate([[0], lengths.cumsum()]), values)


def window_counter(
    histories: RaggedArray, n_items: int, window: Window, timestamp: NDArray[np.int64] | None
) -> RowCounter:
    """A counter of pairs of events within a window of a history, oldest first.

    Raises:
        DataError: the window has a half-life and there are no timestamps.
    """
    if window.half_life_days is None:
        timestamp = np.zeros(0, np.int64)
    elif timestamp is None:
        raise DataError("half_life_days needs timestamps, and the interactions have none")
    item_counts = np.bincount(sort_unique(histories, n_items).values, minlength=n_items)
    n_events = np.bincount(histories.values, minlength=n_items)
    in_reach = min(2 * window.size, int(histories.lengths.max(initial=0)))
    users = np.arange(len(histories.lengths), dtype=np.int32)
    event_offsets = np.concatenate([[0], n_events.cumsum()])
    index = kernels.WindowIndex(
        histories=histories,
        user_index=np.repeat(users, histories.lengths),
        events=RaggedArray(event_offsets, np.argsort(histories.values, kind="stable")),
        timestamp=timestamp,
        half_life=(window.half_life_days or 1.0) * _DAY,
        decay=_decay_by_distance(window),
        symmetric=window.direction == "symmetric",
        count_users=window.repeats == "count_users",
    )
    return RowCounter(item_counts, np.minimum(n_events * in_reach, n_items - 1), index)


def _decay_by_distance(window: Window) -> NDArray[np.int64]:
    """The integer weight of a pair at each distance from zero to the size of the window."""
    distance = np.maximum(np.arange(window.size + 1), 1)
    weights = {
        "none": np.ones(window.size + 1),
        "harmonic": 1.0 / distance,
        "linear": (window.size - distance + 1) / window.size,
    }[window.decay]
    whole: NDArray[np.int64] = np.rint(weights * window.divisor).astype(np.int64)
    return whole
