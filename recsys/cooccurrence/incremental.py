"""Updating counts to changed interactions without counting everything again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import overload

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config import Runtime
from recsys.cooccurrence.blocks import (
    CooccurrenceBlocks,
    finalize_blocks,
    open_blocks,
    stack_blocks,
    write_block,
)
from recsys.cooccurrence.matrix import Cooccurrence, CountMetadata, RowBlock, make_csr
from recsys.cooccurrence.planner import CountPlan, plan_count, positive_events, split_rows
from recsys.data import Interactions
from recsys.errors import ConfigError, DataError
from recsys.storage import atomic_folder

Counts = Cooccurrence | CooccurrenceBlocks


@overload
def update_cooccurrence(
    counts: Counts,
    old: Interactions,
    new: Interactions,
    *,
    folder: None = ...,
    runtime: Runtime | None = ...,
) -> Cooccurrence: ...


@overload
def update_cooccurrence(
    counts: Counts,
    old: Interactions,
    new: Interactions,
    *,
    folder: Path | str,
    runtime: Runtime | None = ...,
) -> CooccurrenceBlocks: ...


def update_cooccurrence(
    counts: Counts,
    old: Interactions,
    new: Interactions,
    *,
    folder: Path | str | None = None,
    runtime: Runtime | None = None,
) -> Counts:
    """Compute the counts of `new` from those of `old`; exactly equal to counting `new`.

    Interactions, users and items may have been added, changed or removed. Users are identified by
    their ids. Only the histories of users who changed are counted: their previous pairs are
    subtracted and their current pairs are added. In addition, all histories are compared and the
    counts are copied once, block by block.

    Args:
        counts: counts of `old`, in memory or on disk.
        old: the interactions that were counted.
        new: the current interactions.
        folder: write the counts to this folder, as `count_cooccurrence` does. It must be another
            one than that of `counts`.
        runtime: number of threads.

    Returns:
        The counts; with a `folder`, a reader of the blocks.

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
    before = _plan(counts, old.filter(changed_old[old.user_index]), runtime)
    after = _plan(counts, new.filter(changed_new[new.user_index]), runtime)
    new_index = new.items.indices(old.items.ids)
    blocks = _updated_blocks(counts, before, after, new_index)
    metadata = after.metadata.metadata()
    item_counts = after.metadata.item_counts.copy()
    remains = new_index >= 0
    unchanged = counts.item_counts - before.metadata.item_counts
    item_counts[new_index[remains]] += unchanged[remains]
    metadata["item_counts"] = item_counts
    if folder is not None:
        folder = Path(folder)
        with atomic_folder(folder) as tmp_path:
            written = [write_block(tmp_path, block) for block in blocks]
            finalize_blocks(tmp_path, written, CountMetadata(**metadata))
        return open_blocks(folder, verify=False)
    in_memory = [block.divided(after.metadata.divisor) for block in blocks]
    n_entries = sum(block.matrix.nnz for block in in_memory)
    return Cooccurrence(matrix=stack_blocks(in_memory, new.n_items, n_entries), **metadata)


def _changed_users(
    counts: CountMetadata, old: Interactions, new: Interactions
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


def _plan(counts: CountMetadata, interactions: Interactions, runtime: Runtime | None) -> CountPlan:
    """A count with the settings of `counts`; zeros without positive interactions."""
    min_rating, window = counts.min_rating, counts.window
    return plan_count(interactions, min_rating, window=window, runtime=runtime, allow_empty=True)


def _updated_blocks(
    counts: Counts, before: CountPlan, after: CountPlan, new_index: NDArray[np.int32]
) -> Iterator[RowBlock]:
    """The updated X times its divisor, in order.

    Both catalogues are sorted by id, so that old rows keep their order. Each old block becomes the
    new rows from those of its first item to those of the next block's.
    """
    n_items = after.metadata.n_items
    kept = np.append(np.where(new_index >= 0, new_index, n_items), n_items)
    bounds = np.minimum.accumulate(kept[::-1])[::-1]
    bounds[0] = 0
    for block in _integer_blocks(counts):
        unchanged = block.matrix - before.count_block(block.start, block.stop).matrix
        if unchanged.data.min(initial=0) < 0:
            raise DataError("the counts were not made from `old`: some of them are too small")
        unchanged.eliminate_zeros()
        start, stop = int(bounds[block.start]), int(bounds[block.stop])
        rows = new_index[block.start : block.stop]
        moved = _move(unchanged, rows - start, new_index, (stop - start, n_items))
        for first, last in split_rows(after.counter.max_entries[start:stop], after.block_entries):
            added = after.count_block(start + first, start + last).matrix
            yield RowBlock(start + first, moved[first:last] + added)


def _integer_blocks(counts: Counts) -> Iterator[RowBlock]:
    if isinstance(counts, CooccurrenceBlocks):
        yield from counts.integer_blocks()
        return
    matrix = counts.matrix
    if counts.divisor != 1:
        matrix = (matrix * counts.divisor).rint().astype(np.int64)
    yield RowBlock(0, matrix)


def _move(
    matrix: sp.csr_array,
    new_rows: NDArray[np.int32],
    new_columns: NDArray[np.int32],
    shape: tuple[int, int],
) -> sp.csr_array:
    """Move rows and columns without changing their order; those of -1 must be empty."""
    lengths, offsets = np.diff(matrix.indptr), np.zeros(shape[0] + 1, np.int64)
    is_used = lengths > 0
    offsets[new_rows[is_used] + 1] = lengths[is_used]
    return make_csr(matrix.data, new_columns[matrix.indices], offsets.cumsum(), shape)
