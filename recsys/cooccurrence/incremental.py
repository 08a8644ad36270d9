"""Counts brought up to date with changed ratings, without counting everything again."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config import Runtime
from recsys.cooccurrence.counter import make_counter
from recsys.cooccurrence.counts import Cooccurrence
from recsys.cooccurrence.positives import Likes, likes_of
from recsys.cooccurrence.rows import RowBlock, stack
from recsys.data import Interactions
from recsys.errors import ConfigError, DataError


def update_cooccurrence(
    counts: Cooccurrence,
    old: Interactions,
    new: Interactions,
    *,
    runtime: Runtime | None = None,
) -> Cooccurrence:
    """Counts of `new` from those of `old`: the same, to the bit, as counting `new` from scratch.

    Ratings may have been added, changed or removed; users and items may have come and gone.
    Users are told apart by their ids. Counted are only the histories of users who changed: what
    they contributed before is taken off, what they contribute now is added. Beside that, the
    histories are compared and the counts copied once.

    Args:
        counts: those of `old`.
        old: what was counted.
        new: what there is now.
        runtime: for the number of threads.

    Raises:
        DataError: `counts` are not of `old`, or nothing counts in `new`.
        ConfigError: the counts were weighted by user.
    """
    if counts.is_weighted:
        raise ConfigError("counts weighted by user cannot be updated: count them again")
    if counts.items != old.items or counts.n_users != old.n_users:
        raise DataError(
            "the counts are not those of `old`: pass the interactions they were made of"
        )
    was, now = _changed_users(counts, old, new)
    before = _count(counts, old.filter(was[old.user_index]), runtime)
    after = _count(counts, new.filter(now[new.user_index]), runtime)
    unchanged = counts.matrix - before.matrix
    if unchanged.data.min(initial=0) < 0:
        raise DataError("the counts are not those of `old`: some are smaller than they must be")
    place = new.items.indices(old.items.ids)
    matrix = _renumbered(unchanged, place, new.n_items) + after.matrix
    matrix.eliminate_zeros()
    matrix.sort_indices()
    item_counts = after.item_counts.copy()
    stays = place >= 0
    item_counts[place[stays]] += (counts.item_counts - before.item_counts)[stays]
    return Cooccurrence(
        matrix=matrix,
        item_counts=item_counts,
        n_users=new.n_users,
        min_rating=after.min_rating,
        items=new.items,
        window=counts.window,
    )


def _changed_users(
    counts: Cooccurrence, old: Interactions, new: Interactions
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whose likes are not the same in both, of the old users and of the new ones."""
    ours, theirs = likes_of(old, counts.min_rating), likes_of(new, counts.min_rating)
    place = new.users.indices(old.users.ids)
    known = np.flatnonzero(place >= 0)
    lengths = ours.histories.lengths[known]
    same = lengths == theirs.histories.lengths[place[known]]
    known, lengths = known[same], lengths[same]
    at = _positions(ours, known, lengths)
    to = _positions(theirs, place[known], lengths)
    item_place = new.items.indices(old.items.ids)
    differ = item_place[ours.histories.values[at]] != theirs.histories.values[to]
    if counts.window is not None and counts.window.half_life_days is not None:
        if ours.timestamp is None or theirs.timestamp is None:
            raise DataError("half_life_days needs timestamps, and the interactions have none")
        differ |= ours.timestamp[at] != theirs.timestamp[to]
    differs = np.bincount(np.repeat(np.arange(len(known)), lengths)[differ], minlength=len(known))
    unchanged = known[differs == 0]
    was, now = np.ones(old.n_users, np.bool_), np.ones(new.n_users, np.bool_)
    was[unchanged] = False
    now[place[unchanged]] = False
    return was, now


def _positions(
    likes: Likes, users: NDArray[np.intp], lengths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Where the likes of `users` are, one after the other."""
    starts = likes.histories.offsets[users]
    shift = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return shift + np.arange(len(shift))


def _count(
    counts: Cooccurrence, interactions: Interactions, runtime: Runtime | None
) -> Cooccurrence:
    """Count as `counts` were; nothing to count gives zeros."""
    n_items = interactions.n_items
    min_rating = None if interactions.rating is None else counts.min_rating
    liked = len(interactions)
    if min_rating is not None and interactions.rating is not None:
        liked = int(np.count_nonzero(interactions.rating >= min_rating))
    if liked:
        counter = make_counter(interactions, min_rating, window=counts.window, runtime=runtime)
        matrix = stack(counter.map_blocks(RowBlock.copy), counter.rows)
        item_counts = counter.item_counts
    else:
        matrix = sp.csr_array((n_items, n_items), dtype=counts.matrix.dtype)
        item_counts = np.zeros(n_items, np.int64)
    return Cooccurrence(
        matrix, item_counts, interactions.n_users, min_rating, interactions.items, counts.window
    )


def _renumbered(matrix: sp.csr_array, place: NDArray[np.int32], n_items: int) -> sp.csr_array:
    """The matrix with row and column i moved to place[i]; without those that have no place."""
    if len(place) == n_items and np.array_equal(place, np.arange(n_items)):
        return matrix
    matrix.eliminate_zeros()  # nobody has the items that are gone: their counts are zero
    entries = matrix.tocoo()
    rows, columns = entries.coords
    return sp.csr_array((entries.data, (place[rows], place[columns])), shape=(n_items, n_items))
