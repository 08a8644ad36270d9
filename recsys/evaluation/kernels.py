"""The inner loops of ranking: one pass over the scores of each row, without temporaries.

Scores come in blocks of items, and what is known of each row is carried from block to block. In
all of them B is the number of rows; a row's seen items stand in `seen` from `starts` to `stops`.

Loops that have to be fast go from 0 to the length of a slice: so the compiler sees that no index
is negative, and compares 16 scores at once, eight times as fast as in a loop over the values.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

_STRIDE = 64
"""Scores that are looked through at once for any that belongs into the list."""


@numba.njit(cache=True, nogil=True)
def sort_seen(
    seen: NDArray[np.int32],
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    targets: NDArray[np.int32],
) -> None:
    """Sort each row's seen items in place, each once, its target left out; `stops` move down."""
    for row in range(len(targets)):
        items = seen[starts[row] : stops[row]]
        items.sort()
        kept = 0
        for place in range(len(items)):
            item = items[place]
            if item != targets[row] and (kept == 0 or item != items[kept - 1]):
                items[kept] = item
                kept += 1
        stops[row] = starts[row] + kept


@numba.njit(cache=True, nogil=True)
def count_ahead(
    scores: NDArray[Any],
    first: int,
    width: int,
    own: NDArray[Any],
    rows: NDArray[np.int64],
    targets: NDArray[np.int32],
    seen: NDArray[np.int32],
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    ahead: NDArray[np.int64],
) -> None:
    """Add to `ahead` how many items of this block rank before each row's target.

    Args:
        scores: of the items `first` to `first + width`, [rows, at least width]; what is not a
            number counts as minus infinity.
        first: the first item of the block.
        width: how many items it has.
        own: the scores of the targets, [rows]; not NaN.
        rows: which rows the scores are of; all that follows is of all rows.
        targets: [B]; in the race even if seen.
        seen: items that are out of the race, as `sort_seen` leaves them.
        starts: [B]; moved on behind the seen items of this block.
        stops: [B].
        ahead: [B].
    """
    for index in range(len(rows)):
        row, values, mine = rows[index], scores[index], own[index]
        target = targets[row] - first
        before = min(max(target, 0), width)
        count = 0
        if mine == -np.inf:
            count = before  # all of a lower index are equal or better
        else:
            earlier = values[:before]
            for item in range(len(earlier)):
                count += earlier[item] >= mine
        later = values[max(target + 1, 0) : width]
        for item in range(len(later)):
            count += later[item] > mine
        at = starts[row]
        while at < stops[row] and seen[at] < first + width:
            item = seen[at] - first
            if item < target:
                count -= mine == -np.inf or values[item] >= mine
            else:
                count -= values[item] > mine
            at += 1
        starts[row] = at
        ahead[row] += count


@numba.njit(cache=True, nogil=True)
def keep_best(
    scores: NDArray[Any],
    first: int,
    width: int,
    seen: NDArray[np.int32],
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    best: NDArray[Any],
    top: NDArray[np.int32],
) -> None:
    """Let the items of this block into each row's list where they belong.

    Args:
        scores: as for `count_ahead`, as are `first`, `width`, `seen`, `starts` and `stops`; here
            `starts` stay where they are.
        first: see above.
        width: see above.
        seen: see above.
        starts: see above.
        stops: see above.
        best: the scores of the list so far, best first, [B, k].
        top: its items, [B, k]; −1 where there are none yet.
    """
    k = top.shape[1]
    for row in range(len(top)):
        values, listed = scores[row], best[row]
        found = k
        while found > 0 and top[row, found - 1] < 0:
            found -= 1
        for chunk in range(0, width, _STRIDE):
            stop = min(chunk + _STRIDE, width)
            if found == k and not _any_above(values[chunk:stop], listed[k - 1]):
                continue
            for item in range(chunk, stop):
                value = values[item]
                if found == k and not value > listed[k - 1]:
                    continue
                at = starts[row] + np.searchsorted(seen[starts[row] : stops[row]], first + item)
                if at < stops[row] and seen[at] == first + item:
                    continue
                _insert(listed, top[row], found, value, first + item)
                found = min(found + 1, k)


@numba.njit(cache=True, nogil=True)
def _any_above(values: NDArray[Any], bound: Any) -> bool:
    """Whether any value is higher; looks at all, which is quicker than to stop at the first."""
    found = False
    for place in range(len(values)):
        found |= values[place] > bound
    return found


@numba.njit(cache=True, nogil=True)
def _insert(
    listed: NDArray[Any], top: NDArray[np.int32], found: int, value: Any, item: int
) -> None:
    """Put an item behind all that are as good; the last one drops out if the list is full."""
    if np.isnan(value):
        value = -np.inf
    place = min(found, len(top) - 1)
    while place > 0 and listed[place - 1] < value:
        listed[place] = listed[place - 1]
        top[place] = top[place - 1]
        place -= 1
    listed[place] = value
    top[place] = item
