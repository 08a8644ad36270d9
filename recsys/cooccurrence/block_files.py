"""Writing counts to disk, block by block: what `recsys.cooccurrence.blocks` reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys import columns
from recsys.cooccurrence.blocks import FORMAT, CooccurrenceBlocks, open_blocks
from recsys.cooccurrence.config import Window
from recsys.cooccurrence.counter import Counter
from recsys.cooccurrence.counts import Cooccurrence
from recsys.cooccurrence.rows import RowBlock
from recsys.errors import ConfigError
from recsys.storage import atomic_folder, write_arrays, write_manifest
from recsys.vocabulary import Vocabulary


class WrittenBlock(NamedTuple):
    """A block that is on disk, and what is to be known of it; sums in the type of the counts."""

    name: str
    rows: slice
    row_sums: NDArray[Any]
    """[n_rows]."""
    column_sums: NDArray[Any]
    """[n_items]."""
    n_entries: int


@dataclass(frozen=True, eq=False)
class Counted:
    """What counts are of; the fields are those of `CooccurrenceBlocks`."""

    item_counts: NDArray[np.int64]
    n_users: int
    min_rating: float | None
    items: Vocabulary
    window: Window | None
    is_weighted: bool
    unit: float

    @classmethod
    def of(cls, source: Counter | Cooccurrence, unit: float) -> Counted:
        """What is to be counted, or has been; a stored count of one stands for `unit`."""
        return cls(
            item_counts=source.item_counts,
            n_users=source.n_users,
            min_rating=source.min_rating,
            items=source.items,
            window=source.window,
            is_weighted=source.is_weighted,
            unit=unit,
        )


def write_blocks(folder: Path, counter: Counter) -> CooccurrenceBlocks:
    """Count, and write each block of rows as it is ready.

    Args:
        folder: appears when all is written; an older one is replaced.
        counter: counts the rows.
    """
    counted = Counted.of(counter, unit=counter.rows.unit)
    with atomic_folder(folder) as draft:
        seal_blocks(draft, counter.map_blocks(lambda block: write_block(draft, block)), counted)
    return open_blocks(folder, verify=False)


def save_cooccurrence(counts: Cooccurrence, folder: Path) -> CooccurrenceBlocks:
    """Write counts that are in memory, as one block.

    Args:
        counts: whole numbers.
        folder: appears when all is written; an older one is replaced.

    Raises:
        ConfigError: the counts are decayed, and so no whole numbers.
    """
    if counts.window is not None and counts.window.is_decayed:
        raise ConfigError("decayed counts are saved as they are counted: pass the counter a folder")
    with atomic_folder(folder) as draft:
        block = write_block(draft, RowBlock(0, counts.matrix))
        seal_blocks(draft, [block], Counted.of(counts, unit=1.0))
    return open_blocks(folder, verify=False)


def write_block(folder: Path, block: RowBlock) -> WrittenBlock:
    """Write one block of integers, not yet scaled, into a folder."""
    matrix = block.matrix
    name = f"rows-{block.start:010d}.npz"
    write_arrays(
        folder / name,
        start=np.array(block.start),
        offsets=matrix.indptr.astype(np.int64),
        columns=matrix.indices.astype(np.min_scalar_type(matrix.shape[1] - 1)),
        counts=matrix.data.astype(np.min_scalar_type(matrix.data.max(initial=0))),
    )
    rows = slice(block.start, block.stop)
    return WrittenBlock(name, rows, matrix.sum(axis=1), matrix.sum(axis=0), matrix.nnz)


def seal_blocks(draft: Path, written: Iterable[WrittenBlock], counted: Counted) -> None:
    """Complete a folder of blocks: sums, ids and the manifest.

    Args:
        draft: where the blocks lie.
        written: all blocks, in order.
        counted: what they are of.
    """
    n_items = len(counted.items)
    rows, column_sums = np.zeros(n_items), np.zeros(n_items)
    parts, n_entries = [], 0
    for block in written:
        parts.append(block.name)
        rows[block.rows] = block.row_sums
        column_sums += block.column_sums
        n_entries += block.n_entries
    write_arrays(
        draft / "marginals.npz",
        item_counts=counted.item_counts,
        row_sums=rows * counted.unit,
        column_sums=column_sums * counted.unit,
    )
    ids = pd.DataFrame({columns.ITEM_ID: counted.items.ids})
    ids.to_parquet(draft / "items.parquet", index=False)
    write_manifest(
        draft,
        format=FORMAT,
        parts=parts,
        n_entries=n_entries,
        n_users=counted.n_users,
        min_rating=counted.min_rating,
        window=None if counted.window is None else counted.window.model_dump(),
        is_weighted=counted.is_weighted,
        unit=counted.unit,
    )
