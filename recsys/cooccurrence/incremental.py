"""Updating counts to changed interactions without counting everything again."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config import Runtime
from recsys.cooccurrence.matrix import Cooccurrence
from recsys.cooccurrence.planner import PositiveEvents, plan_count, positive_events
from recsys.data import Interactions
from recsys.errors import DataError


def update_cooccurrence(
    counts: Cooccurrence,
    old: Interactions,
    new: Interactions,
    *,
    runtime: Runtime | None = None,
) -> Cooccurrence:
    """Compute the counts of `new` from those of `old`; exactly equal to counting `new`.

    Interactions, users and items may have been added, changed or removed. Users are identified by
    their ids. Only the histories of users who changed are counted: their previous pairs are
    subtracted and their current pairs are added. In addition, all histories are compared and the
    counts are copied once.

    Args:
        counts: counts of `old`.
        old: the interactions that were counted.
        new: the current interactions.
        runtime: number of threads.

    Raises:
        DataError: `counts` are not the counts of `old`, or `new` has no positive
            interactions.
    """
    if counts.items != old.items or counts.n_users != old.n_users:
        raise DataError(
            "the counts were not made from `old`: pass the interactions that were counted"
        )
    changed_old, changed_new = _changed_users(counts, old, new)
    before = _count(counts, old.filter(changed_old[old.user_index]), runtime)
    after = _count(counts, new.filter(changed_new[new.user_index]), runtime)
    unchanged = counts.matrix - before.matrix
    if unchanged.data.min(initial=0) < 0:
        raise DataError("the counts were not made from `old`: some of them are too small")
    new_index = new.items.indices(old.items.ids)
    matrix = _reindex(unchanged, new_index, new.n_items) + after.matrix
    matrix.eliminate_zeros()
    matrix.sort_indices()
    item_counts = after.item_counts.copy()
    remains = new_index >= 0
    item_counts[new_index[remains]] += (counts.item_counts - before.item_counts)[remains]
    metadata = {**after.metadata(), "item_counts": item_counts}
    return Cooccurrence(matrix=matrix, **metadata)


def _changed_users(
    counts: Cooccurrence, old: Interactions, new: Interactions
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Users whose positive events differ, [n_users] of `old` and [n_users] of `new`."""
    events, new_events = (positive_events(log, counts.min_rating) for log in (old, new))
    new_user = new.users.indices(old.users.ids)
    common = np.flatnonzero(new_user >= 0)
    lengths = events.histories.lengths[common]
    same_length = lengths == new_events.histories.lengths[new_user[common]]
    common, lengths = common[same_length], lengths[same_length]
    position = _event_positions(events, common, lengths)
    new_position = _event_positions(new_events, new_user[common], lengths)
    new_item = new.items.indices(old.items.ids)
    differ = (
        new_item[events.histories.values[position]] != new_events.histories.values[new_position]
    )
    if counts.window is not None and counts.window.half_life_days is not None:
        if events.timestamp is None or new_events.timestamp is None:
            raise DataError("half_life_days needs timestamps, and the interactions have none")
        differ |= events.timestamp[position] != new_events.timestamp[new_position]
    event_user = np.repeat(np.arange(len(common)), lengths)
    unchanged = common[np.bincount(event_user[differ], minlength=len(common)) == 0]
    changed_old, changed_new = np.ones(old.n_users, np.bool_), np.ones(new.n_users, np.bool_)
    changed_old[unchanged] = False
    changed_new[new_user[unchanged]] = False
    return changed_old, changed_new


def _event_positions(
    events: PositiveEvents, users: NDArray[np.intp], lengths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Positions of the events of `users`, one user after the other."""
    starts = events.histories.offsets[users]
    shift = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return shift + np.arange(len(shift))


def _count(
    counts: Cooccurrence, interactions: Interactions, runtime: Runtime | None
) -> Cooccurrence:
    """Count with the settings of `counts`; zeros without positive interactions."""
    n_items = interactions.n_items
    rating, min_rating = interactions.rating, counts.min_rating
    is_empty = not len(interactions)
    if rating is not None and min_rating is not None:
        is_empty = not (rating >= min_rating).any()
    if not is_empty:
        plan = plan_count(interactions, min_rating, window=counts.window, runtime=runtime)
        return Cooccurrence(matrix=plan.matrix(), **plan.metadata.metadata())
    return Cooccurrence(
        matrix=sp.csr_array((n_items, n_items), dtype=counts.matrix.dtype),
        item_counts=np.zeros(n_items, np.int64),
        n_users=interactions.n_users,
        min_rating=None if rating is None else min_rating,
        items=interactions.items,
        window=counts.window,
    )


def _reindex(matrix: sp.csr_array, new_index: NDArray[np.int32], n_items: int) -> sp.csr_array:
    """Move row and column i to new_index[i]; items without a new index must have no counts."""
    if len(new_index) == n_items and np.array_equal(new_index, np.arange(n_items)):
        return matrix
    matrix.eliminate_zeros()
    entries = matrix.tocoo()
    rows, columns = entries.coords
    shape = (n_items, n_items)
    return sp.csr_array((entries.data, (new_index[rows], new_index[columns])), shape=shape)
