"""Compiled loops over the items of users and the users of items.

Importing this module imports numba, which is slow: import it where something is counted. The
loops release the interpreter lock and share no state, so ordinary Python threads run them in
parallel. numba's own parallel loops are not used: their default threading layer, workqueue, must
not be entered from two threads at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numba.cpython.unsafe.numbers
import numba.extending
import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from recsys.cooccurrence.matrix import CsrBuffers, RaggedArray

Words = NDArray[np.uint64]

Index = np.uint64
"""Type of indices in the innermost loops: a signed index is checked for wraparound on each use."""
_AHEAD: Final = 4
"""How many histories ahead to prefetch."""


compiled = numba.njit(cache=True, nogil=True)
"""Compile on first use, cache on disk, and release the interpreter lock."""
_intrinsic: Callable[[Callable[..., Any]], Any] = numba.extending.intrinsic
trailing_zeros: Any = numba.cpython.unsafe.numbers.trailing_zeros
"""Position of the lowest set bit of a uint64, as a uint64."""


@_intrinsic
def prefetch(_context: Any, array: Any, index: Any) -> Any:  # noqa: ARG001  numba uses the names
    """Load the cache line of an element of an array; the index may be out of range."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), ir.PointerType())
        flag = ir.IntType(32)
        dtype = ir.FunctionType(ir.VoidType(), [ir.PointerType(), flag, flag, flag])
        function = builder.module.declare_intrinsic("llvm.prefetch", [ir.PointerType()], dtype)
        builder.call(function, [address, flag(0), flag(3), flag(1)])  # read, all levels, data
        return context.get_dummy_value()

    return numba.types.void(array, numba.types.int64), generate


class SetIndex(NamedTuple):
    """What `count_set_rows` reads; see `counters.set_counter`."""

    by_item: RaggedArray
    """Users of each item."""
    by_user: RaggedArray
    """Items of each user."""
    is_sparse: NDArray[np.bool_]
    """Whether the row of an item has few entries, [n_items]."""


class WeightedIndex(NamedTuple):
    """What `count_weighted_rows` reads; see `counters.weighted_counter`."""

    by_item: RaggedArray
    """Users of each item."""
    by_user: RaggedArray
    """Items of each user."""
    user_weights: NDArray[np.int64]
    """Weight of each value of `by_item`."""
    item_weights: NDArray[np.int64]
    """Weight of each value of `by_user`."""


class WindowIndex(NamedTuple):
    """What `count_window_rows` reads; see `counters.window_counter`."""

    histories: RaggedArray
    user_index: NDArray[np.int32]
    """User of each event, [n]."""
    events: RaggedArray
    """Events of each item, ascending."""
    timestamp: NDArray[np.int64]
    """Time of each event in seconds, [n]; empty if time does not matter."""
    half_life: float
    """In seconds."""
    decay: NDArray[np.int64]
    """Weight at each distance, [window size + 1]."""
    symmetric: bool
    count_users: bool


@compiled
def sort_unique(
    rows: RaggedArray,
    n_values: int,
    start: int,
    stop: int,
    values_out: NDArray[Any],
    lengths_out: NDArray[np.int64],
) -> None:
    """Sort rows `start` to `stop` and remove duplicates.

    Values, all below `n_values`, are collected in a bitmap, of which `summary` marks the words that
    are not empty. Each row is written to `values_out` where the original row starts.
    """
    words = np.zeros((n_values + 63) // 64, np.uint64)
    summary = np.zeros((len(words) + 63) // 64, np.uint64)
    for row in range(start, stop):
        for value in rows.values[rows.offsets[row] : rows.offsets[row + 1]]:
            words[value >> 6] |= np.uint64(1) << np.uint64(value & 63)
            summary[value >> 12] |= np.uint64(1) << np.uint64(value >> 6 & 63)
        position = rows.offsets[row]
        for top in range(len(summary)):
            used = summary[top]
            summary[top] = 0
            while used:
                word = top * 64 + np.int64(trailing_zeros(used))
                used &= used - np.uint64(1)
                bits = words[word]
                words[word] = 0
                while bits:
                    values_out[position] = word * 64 + np.int64(trailing_zeros(bits))
                    bits &= bits - np.uint64(1)
                    position += 1
        lengths_out[row] = position - rows.offsets[row]


@compiled
def gather_rows(
    values: NDArray[Any], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[Any]:
    """Copy rows of these starts and lengths next to each other."""
    dense = np.empty(lengths.sum(), values.dtype)
    position = 0
    for row in range(len(lengths)):
        dense[position : position + lengths[row]] = values[starts[row] : starts[row] + lengths[row]]
        position += lengths[row]
    return dense


@compiled
def transpose(rows: RaggedArray, offsets: NDArray[np.int64]) -> NDArray[np.int32]:
    """The rows that contain each value, ascending; value v's rows start at offsets[v]."""
    row_index = np.empty(offsets[-1], np.int32)
    next_free = offsets.copy()
    for row in range(len(rows.offsets) - 1):
        for value in rows.values[rows.offsets[row] : rows.offsets[row + 1]]:
            row_index[next_free[value]] = row
            next_free[value] += 1
    return row_index


@compiled
def row_costs(rows: RaggedArray, n_values: int) -> NDArray[np.int64]:
    """Total number of other values in all rows that contain a value, [n_values]."""
    counts = np.zeros(n_values, np.int64)
    for row in range(len(rows.offsets) - 1):
        values = rows.values[rows.offsets[row] : rows.offsets[row + 1]]
        for value in values:
            counts[value] += len(values) - 1
    return counts


@compiled
def _scatter_counts(users: NDArray[np.int32], histories: RaggedArray, counts: NDArray[Any]) -> None:
    """Count the items in the histories of `users`."""
    per_line = 64 // histories.values.itemsize  # values in a cache line
    for index, user in enumerate(users):
        # Histories are scattered in memory: most of the time would be spent waiting for them.
        if index + _AHEAD < len(users):
            ahead = users[index + _AHEAD]
            for line in range(histories.offsets[ahead], histories.offsets[ahead + 1], per_line):
                prefetch(histories.values, line)
        position, stop = Index(histories.offsets[user]), Index(histories.offsets[user + 1])
        while position < stop:
            counts[Index(histories.values[position])] += 1
            position += Index(1)


@compiled
def _mark_nonzero(counts: NDArray[Any], marks: Words) -> None:
    """Mark each item with a count, for rows with many of them; `counts` has 64 entries per mark."""
    for word in range(len(marks)):
        bits = np.uint64(0)
        for bit in range(64):  # no branch, so that the compiler vectorizes the loop
            bits |= np.uint64(counts[word * 64 + bit] != 0) << np.uint64(bit)
        marks[word] = bits


@compiled
def _compact_nonzero(counts: NDArray[Any], marks: Words, buffers: CsrBuffers, row: int) -> None:
    """Write the marked counts as a row, columns ascending; reset counts and marks to zero."""
    at = Index(buffers.offsets[row])
    for word in range(len(marks)):
        bits = marks[word]
        marks[word] = 0
        while bits:
            item = Index(word * 64) + Index(trailing_zeros(bits))
            bits &= bits - np.uint64(1)
            buffers.columns[at] = item
            buffers.counts[at] = counts[item]
            counts[item] = 0
            at += Index(1)
    buffers.offsets[row + 1] = at


@compiled
def count_set_rows(start: int, stop: int, index: SetIndex, buffers: CsrBuffers) -> None:
    """Count rows `start` to `stop` of X from sets."""
    by_item, by_user = index.by_item, index.by_user
    marks = np.zeros((len(by_item.offsets) + 62) // 64, np.uint64)
    row = np.zeros(64 * len(marks), np.int32)
    for item in range(start, stop):
        users = by_item.values[by_item.offsets[item] : by_item.offsets[item + 1]]
        if index.is_sparse[item]:
            for user in users:
                for column in by_user.values[by_user.offsets[user] : by_user.offsets[user + 1]]:
                    row[column] += 1
                    marks[column >> 6] |= np.uint64(1) << np.uint64(column & 63)
        else:
            _scatter_counts(users, by_user, row)
            _mark_nonzero(row, marks)
        row[item] = 0
        marks[item >> 6] &= ~(np.uint64(1) << np.uint64(item & 63))
        _compact_nonzero(row, marks, buffers, item - start)


@compiled
def count_weighted_rows(start: int, stop: int, index: WeightedIndex, buffers: CsrBuffers) -> None:
    """Count rows `start` to `stop` of X from sets with weights."""
    by_item, by_user = index.by_item, index.by_user
    n_items = len(by_item.offsets) - 1
    row, marks = np.zeros(n_items, np.int64), np.zeros((n_items + 63) // 64, np.uint64)
    for item in range(start, stop):
        for at in range(by_item.offsets[item], by_item.offsets[item + 1]):
            user, weight = by_item.values[at], index.user_weights[at]
            for other in range(by_user.offsets[user], by_user.offsets[user + 1]):
                column = by_user.values[other]
                row[column] += weight * index.item_weights[other]
                marks[column >> 6] |= np.uint64(1) << np.uint64(column & 63)
        row[item] = 0
        marks[item >> 6] &= ~(np.uint64(1) << np.uint64(item & 63))
        _compact_nonzero(row, marks, buffers, item - start)


@compiled
def count_window_rows(start: int, stop: int, index: WindowIndex, buffers: CsrBuffers) -> None:
    """Count rows `start` to `stop` of X from pairs of events."""
    histories, events, timestamp = index.histories, index.events, index.timestamp
    n_items, size = len(events.offsets) - 1, len(index.decay) - 1
    row = np.zeros(n_items, np.int64)
    marks = np.zeros((n_items + 63) // 64, np.uint64)
    best = np.zeros(n_items, np.int64)  # largest weight of each item for the current user
    touched = np.empty(n_items, np.int32)  # items with such a weight
    for item in range(start, stop):
        n_touched, user = 0, -1
        for event in events.values[events.offsets[item] : events.offsets[item + 1]]:
            if user != index.user_index[event]:
                _add_best(touched[:n_touched], best, row)
                n_touched, user = 0, index.user_index[event]
            first = max(histories.offsets[user], event - size) if index.symmetric else event + 1
            last = min(histories.offsets[user + 1], event + size + 1)
            for other in range(first, last):
                column = histories.values[other]
                weight = index.decay[abs(other - event)]
                if len(timestamp):
                    gap = abs(timestamp[other] - timestamp[event]) / index.half_life
                    weight = np.int64(np.rint(weight * 2.0**-gap))
                if column == item or weight == 0:
                    continue
                marks[column >> 6] |= np.uint64(1) << np.uint64(column & 63)
                if not index.count_users:
                    row[column] += weight
                elif best[column] == 0:
                    touched[n_touched] = column
                    n_touched += 1
                    best[column] = weight
                else:
                    best[column] = max(best[column], weight)
        _add_best(touched[:n_touched], best, row)
        _compact_nonzero(row, marks, buffers, item - start)


@compiled
def _add_best(touched: NDArray[np.int32], best: NDArray[np.int64], row: NDArray[np.int64]) -> None:
    """Add the largest weights of one user to the row and reset them."""
    for column in touched:
        row[column] += best[column]
        best[column] = 0


@compiled
def top_positions(
    offsets: NDArray[np.int64], values: NDArray[Any], k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Offsets and positions of the k largest values of each row; ties go to the first."""
    new_offsets = np.zeros_like(offsets)
    for row in range(len(offsets) - 1):
        new_offsets[row + 1] = new_offsets[row] + min(offsets[row + 1] - offsets[row], k)
    positions = np.empty(new_offsets[-1], np.int64)
    if k == 0:
        return new_offsets, positions
    heap = np.empty(k, values.dtype)
    for row in range(len(offsets) - 1):
        start, stop, at = offsets[row], offsets[row + 1], new_offsets[row]
        if stop - start <= k:
            positions[at : new_offsets[row + 1]] = np.arange(start, stop)
            continue
        threshold = _kth_largest(values[start:stop], heap)
        n_ties = k - np.sum(values[start:stop] > threshold)
        for position in range(start, stop):
            is_tie = values[position] == threshold
            if values[position] > threshold or (is_tie and n_ties > 0):
                positions[at] = position
                at += 1
                n_ties -= is_tie
    return new_offsets, positions


@compiled
def _kth_largest(values: NDArray[Any], heap: NDArray[Any]) -> Any:
    """The k-th largest of at least k values, with a min-heap of the k largest so far."""
    k = len(heap)
    heap[:] = np.sort(values[:k])  # a sorted array is a heap
    for value in values[k:]:
        if value <= heap[0]:
            continue
        hole, child = 0, 1
        while child < k:
            if child + 1 < k and heap[child + 1] < heap[child]:
                child += 1
            if heap[child] >= value:
                break
            heap[hole] = heap[child]
            hole, child = child, 2 * child + 1
        heap[hole] = value
    return heap[0]
