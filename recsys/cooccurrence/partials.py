"""Counting shares of the users and adding up: what the workers of a cluster do in the end.

a share → its counter → a block of rows from each share → their sum, on disk
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.config import Runtime
from recsys.cooccurrence.block_files import WrittenBlock, write_block
from recsys.cooccurrence.config import Window
from recsys.cooccurrence.counter import Counter, make_counter
from recsys.cooccurrence.rows import RowBlock, count_block
from recsys.cooccurrence.shares import Share, must_be_shared
from recsys.errors import DataError
from recsys.vocabulary import Vocabulary


def counter_of(
    share: Share,
    ids: NDArray[Any],
    min_rating: float | None,
    window: Window | None,
    memory_limit: int,
) -> Counter:
    """What counts the pairs of a share.

    Args:
        share: in which something counts.
        ids: of the items of all shares, ascending.
        min_rating: the lowest rating that counts.
        window: which pairs count.
        memory_limit: the most bytes to take beside the interactions.
    """
    log = share.log
    if log is None:
        raise DataError("a share without rows has nothing to count")
    place = np.searchsorted(ids, log.items.ids).astype(np.int32)
    log = replace(log, item_index=place[log.item_index], items=Vocabulary(ids))
    alone = Runtime(threads=1)  # the cluster runs as many tasks side by side as it has threads
    return make_counter(log, min_rating, window=window, memory_limit=memory_limit, runtime=alone)


class Outline(NamedTuple):
    """What adds up over shares before anything is counted."""

    item_counts: NDArray[np.int64]
    """How many users liked each item, [n_items]."""
    bounds: NDArray[np.int64]
    """The most entries that each row of X can have, [n_items]."""
    unit: float
    """What a count of one stands for."""


def outline_of(counter: Counter) -> Outline:
    """The outline of one share."""
    return Outline(counter.item_counts, counter.rows.bounds, counter.rows.unit)


def add_outlines(one: Outline, other: Outline) -> Outline:
    """The outline of both shares."""
    n_items = len(one.bounds)
    bounds = np.minimum(one.bounds + other.bounds, n_items - 1)
    return Outline(one.item_counts + other.item_counts, bounds, one.unit)


def count_rows(counter: Counter, start: int, stop: int) -> RowBlock:
    """Count rows `start` to `stop` of a share."""
    rows = counter.rows
    room = int(rows.bounds[start:stop].sum())
    columns, counts = np.empty(room, np.int32), np.empty(room, rows.dtype)
    return count_block(rows, start, stop, columns, counts).copy()  # without the room not needed


def add_blocks(one: RowBlock, other: RowBlock) -> RowBlock:
    """The same rows of both shares, added up.

    Raises:
        DataError: a count might not fit its type.
    """
    largest = int(one.matrix.data.max(initial=0)) + int(other.matrix.data.max(initial=0))
    if largest > np.iinfo(one.matrix.dtype).max:
        raise DataError(
            f"a count might reach {largest:,}, more than {one.matrix.dtype} holds: there are too "
            "many users"
        )
    return RowBlock(one.start, one.matrix + other.matrix)


def write_rows(block: RowBlock, folder: Path) -> WrittenBlock:
    """Write the sum of some rows."""
    must_be_shared(folder)
    return write_block(folder, block)
