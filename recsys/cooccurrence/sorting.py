"""From histories to sorted sets, and from sets to audiences: what every count begins with.

Importing this module imports numba.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.cooccurrence.kernels import compiled, trailing_zeros
from recsys.cooccurrence.parts import equal_parts, side_by_side
from recsys.cooccurrence.positives import Lists


def count_values(lists: Lists, n_values: int) -> NDArray[np.int64]:
    """How often each value is there, [n_values]."""
    counts = np.zeros(n_values, np.int64)
    _count(lists, 0, len(lists.offsets) - 1, counts)
    return counts


def sort_sets(lists: Lists, place: NDArray[np.int32], threads: int = 1) -> Lists:
    """Each list with its values ascending, and each value once.

    Args:
        lists: in any order, with or without repetitions.
        place: the new name of each value, [n_values].
        threads: how many to sort with.
    """
    values = np.empty(len(lists.values), np.int32)
    lengths = np.empty(len(lists.offsets) - 1, np.int64)
    side_by_side(
        lambda start, stop: _sort(lists, place, start, stop, values, lengths),
        equal_parts(lists.offsets, threads),
    )
    offsets = np.concatenate([[0], lengths.cumsum()])
    if offsets[-1] < len(values):
        values = _close_up(values, lists.offsets, offsets)
    return Lists(offsets, values)


def keep_values(lists: Lists, is_kept: NDArray[np.bool_], threads: int = 1) -> Lists:
    """The lists without the values that are not kept."""
    parts = equal_parts(lists.offsets, threads)
    lengths = np.empty(len(lists.offsets) - 1, np.int64)
    side_by_side(lambda start, stop: _count_kept(lists, is_kept, start, stop, lengths), parts)
    offsets = np.concatenate([[0], lengths.cumsum()])
    # An array of numpy's lies in large pages of memory, one that compiled code makes does not:
    # histories are read from all over the place, and looking pages up takes a tenth of the time.
    kept = Lists(offsets, np.empty(offsets[-1], np.int32))
    side_by_side(lambda start, stop: _keep(lists, is_kept, start, stop, kept), parts)
    return kept


def transpose(lists: Lists, n_values: int, threads: int = 1) -> Lists:
    """List, for each value, the lists that hold it, ascending.

    Args:
        lists: none of which holds a value twice.
        n_values: values are below.
        threads: how many to do it with.
    """
    parts = equal_parts(lists.offsets, threads)
    counts = np.zeros((len(parts), n_values), np.int64)
    side_by_side(
        lambda start, stop, counts: _count(lists, start, stop, counts),
        [(*part, of_part) for part, of_part in zip(parts, counts, strict=True)],
    )
    offsets = np.concatenate([[0], counts.sum(axis=0).cumsum()])
    rows = np.empty(offsets[-1], np.int32)
    # Where the rows of each part begin for each value: behind those of the parts before it.
    free = offsets[:-1] + counts.cumsum(axis=0) - counts
    side_by_side(
        lambda start, stop, free: _list_rows(lists, start, stop, free, rows),
        [(*part, of_part) for part, of_part in zip(parts, free, strict=True)],
    )
    return Lists(offsets, rows)


def count_meetings(
    sets: Lists, is_met: NDArray[np.bool_], lower: bool, threads: int = 1
) -> NDArray[np.int64]:
    """How many other values are met in all the sets that hold a value, [n_values].

    Args:
        sets: values ascending.
        is_met: which values count as met, [n_values].
        lower: meet only those below the value.
        threads: how many to count with.
    """
    parts = equal_parts(sets.offsets, threads)
    counts = np.zeros((len(parts), len(is_met)), np.int64)
    side_by_side(
        lambda start, stop, counts: _count_meetings(sets, is_met, lower, start, stop, counts),
        [(*part, of_part) for part, of_part in zip(parts, counts, strict=True)],
    )
    total: NDArray[np.int64] = counts.sum(axis=0)
    return total


@compiled
def _sort(
    lists: Lists,
    place: NDArray[np.int32],
    start: int,
    stop: int,
    values_out: NDArray[np.int32],
    lengths_out: NDArray[np.int64],
) -> None:
    """Sort lists `start` to `stop`, each where it begins.

    Values are marked in a row of bits, which has them sorted and each once. A second row of bits
    tells which words of the first are not empty.
    """
    words = np.zeros((len(place) + 63) // 64, np.uint64)
    summary = np.zeros((len(words) + 63) // 64, np.uint64)
    for row in range(start, stop):
        for value in lists.values[lists.offsets[row] : lists.offsets[row + 1]]:
            named = place[value]
            words[named >> 6] |= np.uint64(1) << np.uint64(named & 63)
            summary[named >> 12] |= np.uint64(1) << np.uint64(named >> 6 & 63)
        at = lists.offsets[row]
        for top in range(len(summary)):
            filled = summary[top]
            summary[top] = 0
            while filled:
                word = top * 64 + trailing_zeros(filled)
                filled &= filled - np.uint64(1)
                bits = words[word]
                words[word] = 0
                while bits:
                    values_out[at] = word * 64 + trailing_zeros(bits)
                    bits &= bits - np.uint64(1)
                    at += 1
        lengths_out[row] = at - lists.offsets[row]


@compiled
def _close_up(
    values: NDArray[np.int32], begins: NDArray[np.int64], offsets: NDArray[np.int64]
) -> NDArray[np.int32]:
    """The lists one after the other, without the gaps between them."""
    closed = np.empty(offsets[-1], np.int32)
    for row in range(len(offsets) - 1):
        length = offsets[row + 1] - offsets[row]
        closed[offsets[row] : offsets[row + 1]] = values[begins[row] : begins[row] + length]
    return closed


@compiled
def _count(lists: Lists, start: int, stop: int, counts: NDArray[np.int64]) -> None:
    for value in lists.values[lists.offsets[start] : lists.offsets[stop]]:
        counts[value] += 1


@compiled
def _list_rows(
    lists: Lists, start: int, stop: int, free: NDArray[np.int64], rows: NDArray[np.int32]
) -> None:
    for row in range(start, stop):
        for value in lists.values[lists.offsets[row] : lists.offsets[row + 1]]:
            rows[free[value]] = row
            free[value] += 1


@compiled
def _count_kept(
    lists: Lists,
    is_kept: NDArray[np.bool_],
    start: int,
    stop: int,
    lengths_out: NDArray[np.int64],
) -> None:
    for row in range(start, stop):
        lengths_out[row] = 0
        for value in lists.values[lists.offsets[row] : lists.offsets[row + 1]]:
            lengths_out[row] += is_kept[value]


@compiled
def _keep(lists: Lists, is_kept: NDArray[np.bool_], start: int, stop: int, kept: Lists) -> None:
    at = kept.offsets[start]
    for value in lists.values[lists.offsets[start] : lists.offsets[stop]]:
        if is_kept[value]:
            kept.values[at] = value
            at += 1


@compiled
def _count_meetings(
    sets: Lists,
    is_met: NDArray[np.bool_],
    lower: bool,
    start: int,
    stop: int,
    counts: NDArray[np.int64],
) -> None:
    for row in range(start, stop):
        values = sets.values[sets.offsets[row] : sets.offsets[row + 1]]
        met = 0
        if not lower:
            for value in values:
                met += is_met[value]
        for value in values:
            counts[value] += met if lower else met - is_met[value]
            if lower:
                met += is_met[value]
