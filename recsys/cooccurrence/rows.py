"""Row blocks of X: cut so that each fits its buffer, counted side by side, handed on in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

T = TypeVar("T")

BLOCK_ENTRIES: Final = 2_000_000
"""Entries of a block, unless a single row has more: what fits the cache is fastest to fill."""


class RowCounter(Protocol):
    """Counts any rows of X; used by several threads at once."""

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""

    @property
    def bounds(self) -> NDArray[np.int64]:
        """The most entries that each row can have, [n_items]."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the counts, an integer: sums come out the same in any order."""

    @property
    def unit(self) -> float:
        """What a count of one stands for."""

    @property
    def head_bytes(self) -> int:
        """Memory taken by packed bits."""

    def fill(
        self,
        start: int,
        stop: int,
        offsets: NDArray[np.int64],
        columns: NDArray[np.int32],
        counts: NDArray[Any],
    ) -> None:
        """Count rows `start` to `stop` into the arrays of a CSR matrix, columns ascending."""


@dataclass(frozen=True, eq=False)
class RowBlock:
    """Some consecutive rows of X."""

    start: int
    """The first item of the block."""
    matrix: sp.csr_array
    """Its rows, [n_rows, n_items], columns ascending, zeros not stored."""

    @property
    def stop(self) -> int:
        """The item after the last of the block."""
        return self.start + int(self.matrix.shape[0])

    def copy(self) -> RowBlock:
        """The same block, in memory of its own."""
        return RowBlock(self.start, self.matrix.copy())

    def scaled(self, unit: float) -> RowBlock:
        """The block with its counts in units: as they are where that is one, else float64."""
        return self if unit == 1.0 else RowBlock(self.start, self.matrix * unit)


def csr_of(
    data: NDArray[Any],
    columns: NDArray[np.int32],
    offsets: NDArray[np.int64],
    shape: tuple[int, int],
) -> sp.csr_array:
    """A CSR matrix over these arrays, with indices of 32 bits where they do.

    scipy wants offsets and columns of one type, and would copy the columns into 64 bits.
    """
    narrow = np.int32 if offsets[-1] < 2**31 else np.int64
    indices = columns.astype(narrow, copy=False), offsets.astype(narrow, copy=False)
    return sp.csr_array((data, *indices), shape=shape)


def cut(bounds: NDArray[np.int64], entries: int) -> list[tuple[int, int]]:
    """Cut rows into blocks of at most `entries` entries, or of one row.

    Example:
        >>> cut(np.array([3, 3, 9, 1, 1]), entries=6)
        [(0, 2), (2, 3), (3, 5)]
    """
    ends = np.cumsum(bounds)
    blocks, start, before = [], 0, 0
    while start < len(bounds):
        stop = max(int(np.searchsorted(ends, before + entries, side="right")), start + 1)
        blocks.append((start, stop))
        start, before = stop, int(ends[stop - 1])
    return blocks


def count_block(
    rows: RowCounter, start: int, stop: int, columns: NDArray[np.int32], counts: NDArray[Any]
) -> RowBlock:
    """Count rows `start` to `stop` into buffers of at least as many entries as they can have."""
    offsets = np.zeros(stop - start + 1, np.int64)
    rows.fill(start, stop, offsets, columns, counts)
    n_entries = offsets[-1]
    shape = (stop - start, rows.n_items)
    return RowBlock(start, csr_of(counts[:n_entries], columns[:n_entries], offsets, shape))


def map_blocks(
    rows: RowCounter,
    use: Callable[[RowBlock], T],
    *,
    threads: int,
    entries: int = BLOCK_ENTRIES,
) -> Iterator[T]:
    """Count block after block, and give what `use` makes of each, in order.

    Args:
        rows: counts them.
        use: called in the thread that counted the block. The block lies in a buffer that is
            used again: copy what shall last.
        threads: how many blocks to count side by side.
        entries: how many entries a block has at most; never fewer than one row.
    """
    blocks = cut(rows.bounds, entries)
    room = max((int(rows.bounds[slice(*block)].sum()) for block in blocks), default=0)
    local = threading.local()

    def count(start: int, stop: int) -> T:
        if not hasattr(local, "columns"):
            local.columns, local.counts = np.empty(room, np.int32), np.empty(room, rows.dtype)
        return use(count_block(rows, start, stop, local.columns, local.counts))

    if threads == 1 or len(blocks) == 1:
        yield from (count(*block) for block in blocks)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="cooccurrence") as pool:
        pending: deque[Future[T]] = deque()
        for block in blocks:
            pending.append(pool.submit(count, *block))
            if len(pending) > 2 * threads:  # no further ahead than keeps all threads busy
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def stack(blocks: Iterable[RowBlock], rows: RowCounter) -> sp.csr_array:
    """One matrix, [n_items, n_items], of consecutive blocks that are each on their own.

    The blocks are let go one by one as they are copied, and memory is taken as it is filled, so
    that all are never there twice.
    """
    waiting = deque(blocks)
    lengths = [np.diff(block.matrix.indptr) for block in waiting]
    offsets = np.concatenate([[0], *lengths]).cumsum(dtype=np.int64)
    columns = np.empty(offsets[-1], np.int32)
    counts = np.empty(offsets[-1], rows.dtype if rows.unit == 1.0 else np.float64)
    while waiting:
        block = waiting.popleft()
        part = slice(offsets[block.start], offsets[block.stop])
        columns[part] = block.matrix.indices
        counts[part] = block.scaled(rows.unit).matrix.data
    return csr_of(counts, columns, offsets, (rows.n_items, rows.n_items))
