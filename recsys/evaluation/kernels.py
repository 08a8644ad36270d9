"""The inner loops of ranking: one pass over the scores of each row, without temporaries."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True)
def rank_rows(
    scores: NDArray[Any],
    seen: NDArray[np.int32],
    offsets: NDArray[np.int64],
    targets: NDArray[np.int32],
    ranks: NDArray[np.int64],
) -> None:
    """Write the rank of each row's target into `ranks`.

    Args:
        scores: [B, n_items]; not a number counts as minus infinity.
        seen: items that are out of the race, row after row.
        offsets: where each row's begin in `seen`, [B + 1].
        targets: [B]; in the race even if seen.
        ranks: [B].
    """
    for row in range(len(targets)):
        target = targets[row]
        values = scores[row]
        own = values[target]
        if np.isnan(own):
            own = -np.inf
        ahead = 0
        if own == -np.inf:
            ahead = target  # all of a lower index are equal or better
        else:
            for item in range(target):
                ahead += values[item] >= own
        for item in range(target + 1, len(values)):
            ahead += values[item] > own
        out = np.sort(seen[offsets[row] : offsets[row + 1]])
        for place in range(len(out)):
            item = out[place]
            if item == target or (place > 0 and item == out[place - 1]):
                continue
            if item < target:
                ahead -= own == -np.inf or values[item] >= own
            else:
                ahead -= values[item] > own
        ranks[row] = 1 + ahead


@numba.njit(cache=True, nogil=True)
def top_rows(
    scores: NDArray[Any],
    seen: NDArray[np.int32],
    offsets: NDArray[np.int64],
    targets: NDArray[np.int32],
    top: NDArray[np.int32],
) -> None:
    """Write each row's best items into `top`, [B, k], best first; −1 where there are no more.

    As in `rank_rows`, with a target of −1 where there is none.
    """
    n_items, k = scores.shape[1], top.shape[1]
    is_out = np.zeros(n_items, dtype=np.bool_)
    best = np.empty(k, dtype=scores.dtype)
    for row in range(len(targets)):
        out = seen[offsets[row] : offsets[row + 1]]
        for item in out:
            is_out[item] = item != targets[row]
        found = 0
        for item in range(n_items):
            value = scores[row, item]
            if found == k and not value > best[k - 1]:
                continue
            if is_out[item]:
                continue
            if np.isnan(value):
                value = -np.inf
                if found == k:
                    continue
            place = found if found < k else k - 1
            while place > 0 and best[place - 1] < value:
                best[place] = best[place - 1]
                top[row, place] = top[row, place - 1]
                place -= 1
            best[place] = value
            top[row, place] = item
            found = min(found + 1, k)
        top[row, found:] = -1
        for item in out:
            is_out[item] = False
