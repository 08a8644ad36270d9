"""Rows in the order of watching: by user, then time, then input order.

A row of ratings is a few bytes, so that sorting costs mostly reading memory at random. Rows are
counted into their users' slices (a counting sort), which leaves them in input order, and only
slices that are out of the order of time are then sorted by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from recsys.config import available_threads


def order_of_watching(
    user_index: NDArray[np.int32], timestamp: NDArray[np.int64] | None, n_users: int
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Find the order of rows by (user, time, input order).

    Args:
        user_index: the user of each row, [n].
        timestamp: when, [n]; None where rows are in the order of watching.
        n_users: number of users.

    Returns:
        The positions of the rows in that order, [n], and where each user's begin and the last
        user's end, [n_users + 1].
    """
    # Half the memory where it will do: memory that is new to a process is slow.
    n = len(user_index)
    order = np.empty(n, dtype=np.int32 if n < 2**31 else np.int64)
    offsets = np.zeros(n_users + 1, dtype=np.int64)
    np.cumsum(count_codes(user_index, n_users), out=offsets[1:])
    _count_into_slices(user_index, offsets[:-1].copy(), order)
    if timestamp is not None:
        # Each thread gets users with an equal part of the rows.
        cuts = np.searchsorted(offsets, np.linspace(0, n, available_threads() + 1))
        _in_threads(_sort_slices, [(order, offsets, timestamp, *cut) for cut in pairwise(cuts)])
    return order, offsets


def _in_threads(work: Callable[..., None], shares: Iterable[tuple[Any, ...]]) -> None:
    """Do some work for each share of it, in threads; it must let go of the interpreter.

    The threads are Python's own: numba's would have to be agreed upon with torch's.
    """
    with ThreadPoolExecutor(available_threads()) as pool:
        for job in [pool.submit(work, *share) for share in shares]:
            job.result()


_SLICE = 1 << 18
"""So many rows at a time, what NumPy makes of them for itself stays in the cache."""


def take(
    values: NDArray[Any], positions: NDArray[Any], out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """`values[positions]`, in threads; into `out`, which may be the positions themselves."""
    taken = np.empty(len(positions), dtype=values.dtype) if out is None else out

    def fill(start: int) -> None:
        part = slice(start, start + _SLICE)
        # A copy of these few, as NumPy would make of all. The mode is the one that does not check.
        np.take(values, positions[part].astype(np.intp), out=taken[part], mode="clip")

    _in_threads(fill, ((start,) for start in range(0, len(positions), _SLICE)))
    return taken


def count_codes(codes: NDArray[np.int32], n: int) -> NDArray[np.int64]:
    """How often each of `n` codes occurs, [n]; without a copy of the codes."""
    counts = np.zeros(n, dtype=np.int64)
    for start in range(0, len(codes), _SLICE):
        counts += np.bincount(codes[start : start + _SLICE], minlength=n)
    return counts


@numba.njit(cache=True, nogil=True)
def _count_into_slices(
    user_index: NDArray[np.int32], next_place: NDArray[np.int64], order: NDArray[Any]
) -> None:
    for row in range(len(user_index)):
        user = user_index[row]
        order[next_place[user]] = row
        next_place[user] += 1


@numba.njit(cache=True, nogil=True)
def _sort_slices(
    order: NDArray[Any],
    offsets: NDArray[np.int64],
    timestamp: NDArray[np.int64],
    first: int,
    last: int,
) -> None:
    """Sort the slices of users `first` to `last` (exclusive) by time; equal times stay put."""
    for user in range(first, last):
        rows = order[offsets[user] : offsets[user + 1]]
        times = timestamp[rows]
        if (times[1:] < times[:-1]).any():
            rows[:] = rows[np.argsort(times, kind="mergesort")]


@numba.njit(cache=True, nogil=True)
def repeated_later(
    item_index: NDArray[np.int32], offsets: NDArray[np.int64], n_items: int
) -> NDArray[np.bool_]:
    """Which rows, [n], have a later one of the same user and item.

    Args:
        item_index: the item of each row, [n], in the order of watching.
        offsets: where each user's rows begin and end, [n_users + 1].
        n_items: number of items.
    """
    repeated = np.zeros(len(item_index), dtype=np.bool_)
    last_user = np.full(n_items, -1, dtype=np.int64)
    for user in range(len(offsets) - 1):
        for row in range(offsets[user + 1] - 1, offsets[user] - 1, -1):
            item = item_index[row]
            repeated[row] = last_user[item] == user
            last_user[item] = user
    return repeated
