"""Ranks and top-k lists computed from blocks of scores, without holding whole rows.

Shapes: B rows (one per history), R active rows, k length of the lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

Items = NDArray[np.int32]
Indices = NDArray[np.int64]

Block = tuple[NDArray[Any], int, int]  # the arguments of `RankAccumulator.update`

_STRIDE = 64  # scores that are compared with the lowest listed score at once


class SeenItems(NamedTuple):
    """The items to leave out: `items[starts[b]:stops[b]]` for row b, sorted and distinct."""

    items: Items
    starts: Indices
    stops: Indices
    next: Indices  # position of the first item that no block has reached


class RankAccumulator:
    """Counts the items ahead of each target and keeps the best k, while scores arrive in blocks.

    Ties are broken by the lower item index. NaN counts as minus infinity.

    Args:
        seen: items to leave out, one array per row; a row's target is never left out.
        targets: [B]; −1 where only the list is wanted.
        k: length of the lists.
        max_rank: higher ranks are reported as `max_rank` + 1; None for exact ranks.
    """

    def __init__(
        self, seen: Sequence[Items], targets: Items, k: int = 0, max_rank: int | None = None
    ) -> None:
        offsets = np.cumsum([0, *map(len, seen)])
        starts, stops = offsets[:-1].copy(), offsets[1:].copy()
        items = np.concatenate([*seen, np.empty(0, np.int32)])
        self._seen = SeenItems(items, starts, stops, starts.copy())
        _sort_seen(self._seen, targets)
        self._targets = targets
        self._has_targets = bool((targets >= 0).any())
        self._max_rank = max_rank
        self._n_better = np.zeros(len(targets), dtype=np.int64)
        self._rows = np.arange(len(targets))
        self.top = np.full((len(targets), k), -1, dtype=np.int32)
        """The best items so far, best first, [B, k]; −1 pads short lists."""

    @property
    def active_targets(self) -> Items:
        """The targets of the active rows, [R]."""
        return self._targets[self._rows]

    @property
    def ranks(self) -> Indices:
        """The rank of each target, from 1, [B]."""
        ranks = 1 + self._n_better
        return ranks if self._max_rank is None else np.minimum(ranks, self._max_rank + 1)

    def set_target_scores(self, scores: NDArray[Any]) -> None:
        """Set the scores of the active targets, [R]; ignored where there is no target."""
        self._target_scores = np.where(np.isnan(scores), -np.inf, scores).astype(scores.dtype)
        self._best = np.full(self.top.shape, -np.inf, dtype=scores.dtype)

    def update(self, scores: NDArray[Any], first: int, width: int) -> None:
        """Add the scores of the next `width` items, from `first` on, [R, at least width]."""
        block = scores, first, width
        if self._has_targets:
            target_scores, rows, targets = self._target_scores, self._rows, self._targets
            _count_better(block, target_scores, rows, targets, self._seen, self._n_better)
        if self.top.shape[1]:
            _update_top(block, self._seen, self._best, self.top)

    def prune(self) -> NDArray[np.bool_] | None:
        """Deactivate rows beyond `max_rank` if they are half of all; return which remain, [R]."""
        if self._max_rank is None or self.top.shape[1]:
            return None
        undecided = self._n_better[self._rows] < self._max_rank
        if 2 * np.count_nonzero(undecided) > len(undecided):
            return None
        self._rows = self._rows[undecided]
        return undecided


@numba.njit(cache=True, nogil=True)
def _sort_seen(seen: SeenItems, targets: Items) -> None:
    """Sort each row's items in place, drop duplicates and the target, and lower `stops`."""
    for row in range(len(targets)):
        items = seen.items[seen.starts[row] : seen.stops[row]]
        items.sort()
        n_unique = 0
        for index in range(len(items)):
            item = items[index]
            if item != targets[row] and (n_unique == 0 or item != items[n_unique - 1]):
                items[n_unique] = item
                n_unique += 1
        seen.stops[row] = seen.starts[row] + n_unique


@numba.njit(cache=True, nogil=True)
def _count_better(
    block: Block, target_scores: Any, rows: Indices, targets: Items, seen: SeenItems, n_better: Any
) -> None:
    """Add the number of items in this block that rank before each target to `n_better`, [B].

    `target_scores` (without NaN) and `rows` belong to the active rows, [R]. The counting loops
    run over slices from 0: the compiler then knows that no index is negative and compares 16
    scores per instruction, eight times as fast.
    """
    scores, first, width = block
    for index in range(len(rows)):
        row, values, target_score = rows[index], scores[index], target_scores[index]
        target = targets[row] - first
        n_before = min(max(target, 0), width)
        count = 0
        if target_score == -np.inf:
            count = n_before  # all items with a lower index score at least as high
        else:
            before = values[:n_before]
            for item in range(len(before)):
                count += before[item] >= target_score
        after = values[max(target + 1, 0) : width]
        for item in range(len(after)):
            count += after[item] > target_score
        position = seen.next[row]
        while position < seen.stops[row] and seen.items[position] < first + width:
            item = seen.items[position] - first
            if item < target:
                count -= target_score == -np.inf or values[item] >= target_score
            else:
                count -= values[item] > target_score
            position += 1
        seen.next[row] = position
        n_better[row] += count


@numba.njit(cache=True, nogil=True)
def _update_top(block: Block, seen: SeenItems, best: NDArray[Any], top: Items) -> None:
    """Merge the items of this block into the lists: scores `best` and items `top`, [B, k]."""
    scores, first, width = block
    k = top.shape[1]
    for row in range(len(top)):
        values, row_best = scores[row], best[row]
        row_seen = seen.items[seen.starts[row] : seen.stops[row]]
        n_listed = k
        while n_listed > 0 and top[row, n_listed - 1] < 0:
            n_listed -= 1
        for chunk in range(0, width, _STRIDE):
            stop = min(chunk + _STRIDE, width)
            if n_listed == k and not _any_above(values[chunk:stop], row_best[k - 1]):
                continue
            for column in range(chunk, stop):
                value, item = values[column], first + column
                if n_listed == k and not value > row_best[k - 1]:
                    continue
                position = np.searchsorted(row_seen, item)
                if position < len(row_seen) and row_seen[position] == item:
                    continue
                _insert(row_best, top[row], n_listed, value, item)
                n_listed = min(n_listed + 1, k)


@numba.njit(cache=True, nogil=True)
def _any_above(values: NDArray[Any], bound: Any) -> bool:
    """Whether any value exceeds the bound. Without an early exit, the loop vectorises."""
    result = False
    for index in range(len(values)):
        result |= values[index] > bound
    return result


@numba.njit(cache=True, nogil=True)
def _insert(best: NDArray[Any], top: Items, n_listed: int, value: Any, item: int) -> None:
    """Insert an item after all items that score at least as high; a full list drops its last."""
    if np.isnan(value):
        value = -np.inf
    position = min(n_listed, len(top) - 1)
    while position > 0 and best[position - 1] < value:
        best[position] = best[position - 1]
        top[position] = top[position - 1]
        position -= 1
    best[position] = value
    top[position] = item
