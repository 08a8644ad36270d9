"""Updating counts to changed interactions without counting everything again."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config import Runtime
from recsys.cooccurrence.matrix import Cooccurrence
from recsys.cooccurrence.planner import plan_count, positive_events
from recsys.data import Interactions
from recsys.errors import ConfigError, DataError


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
        ConfigError: events have weights.
    """
    if counts.items != old.items or counts.n_users != old.n_users:
        raise DataError(
            "the counts were not made from `old`: pass the interactions that were counted"
        )
    if any(part is not None for part in (counts.weights, old.weight, new.weight)):
        raise ConfigError("counts of events with weights cannot be updated: count `new` again")
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
    from recsys.cooccurrence.kernels import gather_rows

    events, new_events = (positive_events(log, counts.min_rating) for log in (old, new))
    new_user = new.users.indices(old.users.ids)
    common = np.flatnonzero(new_user >= 0)
    lengths = events.histories.lengths[common]
    same_length = lengths == new_events.histories.lengths[new_user[common]]
    common, lengths = common[same_length], lengths[same_length]
    starts = events.histories.offsets[common]
    new_starts = new_events.histories.offsets[new_user[common]]
    items = new.items.indices(old.items.ids)[events.histories.values]
    differ = gather_rows(items, starts, lengths) != gather_rows(
        new_events.histories.values, new_starts, lengths
    )
    if counts.window is not None and counts.window.half_life_days is not None:
        if events.timestamp is None or new_events.timestamp is None:
            raise DataError("half_life_days needs timestamps, and the interactions have none")
        differ |= gather_rows(events.timestamp, starts, lengths) != gather_rows(
            new_events.timestamp, new_starts, lengths
        )
    event_user = np.repeat(np.arange(len(common)), lengths)
    unchanged = common[np.bincount(event_user[differ], minlength=len(common)) == 0]
    changed_old, changed_new = np.ones(old.n_users, np.bool_), np.ones(new.n_users, np.bool_)
    changed_old[unchanged] = False
    changed_new[new_user[unchanged]] = False
    return changed_old, changed_new


def _count(
    counts: Cooccurrence, interactions: Interactions, runtime: Runtime | None
) -> Cooccurrence:
    """Count with the settings of `counts`; zeros without positive interactions."""
    min_rating, window = counts.min_rating, counts.window
    plan = plan_count(interactions, min_rating, window=window, runtime=runtime, allow_empty=True)
    return Cooccurrence(matrix=plan.matrix(), **plan.metadata.metadata())


def _reindex(matrix: sp.csr_array, new_index: NDArray[np.int32], n_items: int) -> sp.csr_array:
    """Move row and column i to new_index[i]; items without a new index must have no counts."""
    if len(new_index) == n_items and np.array_equal(new_index, np.arange(n_items)):
        return matrix
    matrix.eliminate_zeros()
    entries = matrix.tocoo()
    rows, columns = entries.coords
    shape = (n_items, n_items)
    return sp.csr_array((entries.data, (new_index[rows], new_index[columns])), shape=shape)
