"""Rows of X where each user's items are a set: how many users have both of two items."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.cooccurrence.kernels import (
    compiled,
    gather,
    gather_and_mark,
    mark_all,
    sum_over,
    take_marked,
)
from recsys.cooccurrence.plan import COLUMNS, HEAD_BYTES, Audiences, choose_head, rows_by_bits
from recsys.cooccurrence.positives import Lists, Positives
from recsys.cooccurrence.sorting import count_meetings, keep_values
from recsys.cooccurrence.vertical import Words, pack_bits, room_for, sum_bits

_SPARSE_SHARE = 6
"""Rows with fewer likes to gather than a sixth of the catalogue are gathered with marks."""


class SetRows:
    """Counts rows of X from sets.

    Args:
        positives: who liked what.
        lower: only the entries left of the diagonal, each pair once.
        max_head_bytes: the most memory that packed bits may take.
        threads: how many to divide the histories with.
    """

    def __init__(
        self,
        positives: Positives,
        *,
        lower: bool = False,
        max_head_bytes: int = HEAD_BYTES,
        threads: int = 1,
    ) -> None:
        by_user = positives.by_user
        self.n_items = positives.n_items
        # No count exceeds the number of users, whose indices are int32.
        self.dtype: np.dtype[Any] = np.dtype(np.int32)
        self.unit = 1.0
        self._positives = positives
        self._lower = lower
        audiences = self._audiences(threads)
        self._head = choose_head(audiences, positives.n_users, max_head_bytes)
        is_tail = np.ones(self.n_items, np.bool_)
        is_tail[self._head] = False
        self._tails = keep_values(by_user, is_tail, threads)
        self._bits = pack_bits(by_user, self._head, self.n_items, threads)
        self.head_bytes = self._bits.nbytes
        tail_meets = count_meetings(by_user, is_tail, lower, threads)
        self._by_bits = rows_by_bits(audiences, tail_meets, len(self._head), positives.n_users)
        self._is_sparse = audiences.meets * _SPARSE_SHARE < audiences.n_columns
        self.bounds = np.minimum(audiences.meets, audiences.n_columns)

    def _audiences(self, threads: int) -> Audiences:
        by_user, by_item = self._positives.by_user, self._positives.by_item
        everything = np.ones(self.n_items, np.bool_)
        meets = count_meetings(by_user, everything, self._lower, threads)
        if not self._lower:
            others = np.full(self.n_items, self.n_items - 1)
            return Audiences(by_item.lengths, meets, meets, others)
        # Who is not met before an item is met after it.
        after = sum_over(by_item, by_user.lengths) - by_item.lengths - meets
        return Audiences(by_item.lengths, meets, after, np.arange(self.n_items))

    def fill(
        self,
        start: int,
        stop: int,
        offsets: NDArray[np.int64],
        columns: NDArray[np.int32],
        counts: NDArray[Any],
    ) -> None:
        """Count rows `start` to `stop` into the arrays of a CSR matrix, columns ascending."""
        _fill_rows(
            start,
            stop,
            self._lower,
            self._positives.by_item,
            self._positives.by_user,
            self._tails,
            self._head,
            self._bits,
            self._by_bits,
            self._is_sparse,
            offsets,
            columns,
            counts,
        )


@compiled
def _fill_rows(
    start: int,
    stop: int,
    lower: bool,
    by_item: Lists,
    by_user: Lists,
    tails: Lists,
    head: NDArray[np.int32],
    bits: Words,
    by_bits: NDArray[np.bool_],
    is_sparse: NDArray[np.bool_],
    offsets_out: NDArray[np.int64],
    columns_out: NDArray[np.int32],
    counts_out: NDArray[np.int32],
) -> None:
    n_items = len(by_item.offsets) - 1
    row = np.zeros(n_items, np.int32)
    marks = np.zeros((n_items + 63) // 64, np.uint64)
    sums = np.zeros(64 * bits.shape[1], np.int32)
    longest = 1
    for item in range(start, stop):
        longest = max(longest, by_item.offsets[item + 1] - by_item.offsets[item])
    room = room_for(longest, bits.shape[1])
    filled = 0
    for item in range(start, stop):
        users = by_item.values[by_item.offsets[item] : by_item.offsets[item + 1]]
        limit = item if lower else n_items
        if by_bits[item]:
            n_head = np.searchsorted(head, limit)
            # Only as many lines of bits as hold head items below the limit.
            n_lines = (n_head + COLUMNS - 1) // COLUMNS
            sum_bits(users, bits, sums[: n_lines * COLUMNS], room)
            for column in range(n_head):
                row[head[column]] = sums[column]
            if n_head < limit:
                gather(users, tails, row, limit)
            mark_all(row, limit, marks)
        elif is_sparse[item]:
            gather_and_mark(users, by_user, row, marks, limit)
        else:
            gather(users, by_user, row, limit)
            mark_all(row, limit, marks)
        if not lower:
            row[item] = 0
            marks[item >> 6] &= ~(np.uint64(1) << np.uint64(item & 63))
        used = (limit + 63) // 64
        filled = take_marked(row, marks[:used], columns_out, counts_out, filled)
        offsets_out[item - start + 1] = filled
