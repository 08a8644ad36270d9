"""Rows of X by pairs of events: within a window of a history, decayed, or weighted by user."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recsys.cooccurrence.config import Window
from recsys.cooccurrence.kernels import compiled, take_marked
from recsys.cooccurrence.positives import Lists
from recsys.errors import DataError

_FRACTION: Final = 2.0**-20
"""Decayed weights are whole multiples of this, so that sums of them are exact, and the same in
any order: by blocks, in threads, or after an update."""
_DAY: Final = 86_400.0
_NO_TIMES: Final = np.zeros(0, np.int64)


class EventRows:
    """Counts rows of X from pairs of events.

    Args:
        histories: the items of each user, in the order of watching.
        n_items: size of the catalogue.
        window: which pairs count, and how much.
        timestamp: the time of each event in seconds, [n].
        user_weights: how much each pair of a user counts, from 0, [n_users]; None counts
            each once.
        is_set: no item is in a history twice.

    Raises:
        DataError: a half-life is asked for and there are no times, or a count might exceed 2⁶³.
    """

    def __init__(
        self,
        histories: Lists,
        n_items: int,
        window: Window,
        timestamp: NDArray[np.int64] | None = None,
        user_weights: NDArray[np.int64] | None = None,
        is_set: bool = False,
    ) -> None:
        if window.half_life_days is not None and timestamp is None:
            raise DataError("half_life_days needs timestamps, and the interactions have none")
        self.n_items = n_items
        self.dtype: np.dtype[Any] = np.dtype(np.int64)
        self.unit = _FRACTION if window.is_decayed else 1.0
        self.head_bytes = 0
        self._histories = histories
        self._window = window
        self._timestamp = timestamp if window.half_life_days else None
        n_users = len(histories.lengths)
        self._user_index = np.repeat(np.arange(n_users, dtype=np.int32), histories.lengths)
        self._weights = np.ones(n_users, np.int64) if user_weights is None else user_weights
        self._decay = _decay_by_distance(window)
        n_events = np.bincount(histories.values, minlength=n_items)
        self._offsets = np.concatenate([[0], np.cumsum(n_events)])
        self._events = np.argsort(histories.values, kind="stable")
        # A history may be shorter than the window.
        in_reach = min(2 * window.size, int(histories.lengths.max(initial=0)))
        self.bounds = np.minimum(n_events * in_reach, n_items - 1)
        self._refuse_overflow(1 if is_set or window.repeats == "count_users" else in_reach)

    def _refuse_overflow(self, pairs_of_an_event: int) -> None:
        """Raise if a count might not fit: an event of i has so many pairs with events of j."""
        weights = self._weights[self._user_index].astype(np.float64)
        heaviest = np.bincount(self._histories.values, weights).max(initial=0)
        largest = float(heaviest) * float(self._decay.max()) * pairs_of_an_event
        if largest >= 2**63:
            raise DataError(
                f"a count might reach {largest:.3g}, which is more than 2⁶³: lower user_weights"
            )

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
            self._offsets,
            self._events,
            self._histories,
            self._user_index,
            _NO_TIMES if self._timestamp is None else self._timestamp,
            (self._window.half_life_days or 1.0) * _DAY,
            self._weights,
            self._decay,
            self._window.direction == "symmetric",
            self._window.repeats == "count_users",
            offsets,
            columns,
            counts,
        )


def _decay_by_distance(window: Window) -> NDArray[np.int64]:
    """The weight of a pair at each distance from zero to the size of the window, in units."""
    if not window.is_decayed:
        return np.ones(window.size + 1, np.int64)
    distance = np.maximum(np.arange(window.size + 1), 1)
    weights = {
        "none": np.ones(window.size + 1),
        "harmonic": 1.0 / distance,
        "linear": (window.size - distance + 1) / window.size,
    }[window.decay]
    return np.rint(weights / _FRACTION).astype(np.int64)


@compiled
def _fill_rows(
    start: int,
    stop: int,
    item_offsets: NDArray[np.int64],
    events: NDArray[np.int64],
    histories: Lists,
    user_index: NDArray[np.int32],
    timestamp: NDArray[np.int64],
    half_life: float,
    user_weights: NDArray[np.int64],
    decay: NDArray[np.int64],
    both_sides: bool,
    once_a_user: bool,
    offsets_out: NDArray[np.int64],
    columns_out: NDArray[np.int32],
    counts_out: NDArray[np.int64],
) -> None:
    n_items = len(item_offsets) - 1
    size = len(decay) - 1
    row = np.zeros(n_items, np.int64)
    marks = np.zeros((n_items + 63) // 64, np.uint64)
    best = np.zeros(n_items if once_a_user else 0, np.int64)  # pair of the present user
    met = np.empty(n_items if once_a_user else 0, np.int32)  # items with such a pair
    filled = 0
    for item in range(start, stop):
        n_met, user = 0, -1
        for event in events[item_offsets[item] : item_offsets[item + 1]]:
            if user != user_index[event]:
                _settle(met[:n_met], best, row)
                n_met, user = 0, user_index[event]
            first = max(histories.offsets[user], event - size) if both_sides else event + 1
            last = min(histories.offsets[user + 1], event + size + 1)
            for other in range(first, last):
                column = histories.values[other]
                weight = decay[abs(other - event)] * user_weights[user]
                if len(timestamp):
                    apart = abs(timestamp[other] - timestamp[event]) / half_life
                    weight = np.int64(np.rint(weight * 2.0**-apart))
                if column == item or weight == 0:
                    continue
                marks[column >> 6] |= np.uint64(1) << np.uint64(column & 63)
                if not once_a_user:
                    row[column] += weight
                elif best[column] == 0:
                    met[n_met] = column
                    n_met += 1
                    best[column] = weight
                else:
                    best[column] = max(best[column], weight)
        _settle(met[:n_met], best, row)
        filled = take_marked(row, marks, columns_out, counts_out, filled)
        offsets_out[item - start + 1] = filled


@compiled
def _settle(met: NDArray[np.int32], best: NDArray[np.int64], row: NDArray[np.int64]) -> None:
    """Add a user's best pairs to the row, and forget them."""
    for column in met:
        row[column] += best[column]
        best[column] = 0
