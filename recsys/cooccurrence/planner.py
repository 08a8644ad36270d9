"""Planning a count: the positive interactions, the counter, memory, and blocks of rows."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.config import Runtime, available_threads
from recsys.cooccurrence.config import Window
from recsys.cooccurrence.matrix import (
    CountMetadata,
    CsrBuffers,
    Marginals,
    RaggedArray,
    RowBlock,
    make_csr,
)
from recsys.data import Interactions
from recsys.errors import ConfigError, DataError

T = TypeVar("T")

BLOCK_ENTRIES: Final = 2_000_000
"""Maximum entries of a block, unless one row has more. Blocks that fit the cache are fastest."""
_ENTRY_BYTES: Final = 24
"""Memory per entry of a block: a column and a count, and a copy of both where they are used."""
_SAMPLED_ROWS: Final = 256
_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?B)?\s*", re.IGNORECASE)
_UNITS: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_bytes(size: str | int) -> int:
    """Parse a number of bytes, such as "2GB" or "500 MB"; 1 KB is 1,000 bytes.

    Raises:
        ConfigError: the text is not a size.

    Example:
        >>> parse_bytes("1.5GB")
        1500000000
    """
    match = _SIZE.fullmatch(str(size))
    if match is None:
        raise ConfigError(f"{size!r} is not a size in bytes: pass a number, or text like '2GB'")
    return int(float(match[1]) * _UNITS[(match[2] or "").upper()])


def format_bytes(size: float) -> str:
    """Format a number of bytes.

    Example:
        >>> format_bytes(1_540_000_000)
        '1.54 GB'
    """
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


class PositiveEvents(NamedTuple):
    """The interactions that count."""

    histories: RaggedArray
    """Items of each user, oldest first."""
    timestamp: NDArray[np.int64] | None
    """Time of each event in seconds, [n]; None if unknown."""


def positive_events(interactions: Interactions, min_rating: float | None) -> PositiveEvents:
    """Select the interactions that count: those rated `min_rating` or higher, or all of them.

    Raises:
        DataError: there are no interactions, or no rating reaches `min_rating`.
    """
    if not len(interactions):
        raise DataError("there are no interactions to count")
    offsets, items = interactions.user_offsets, interactions.item_index
    timestamp = interactions.timestamp
    if min_rating is not None and interactions.rating is not None:
        mask = interactions.rating >= min_rating
        if not mask.any():
            raise no_positives_error(min_rating, interactions.rating.max())
        offsets = np.concatenate([[0], np.cumsum(mask)])[offsets]
        items = items[mask]
        timestamp = None if timestamp is None else timestamp[mask]
    return PositiveEvents(RaggedArray(offsets, items), timestamp)


def no_positives_error(min_rating: float | None, highest: float) -> DataError:
    """The error for data in which no rating reaches `min_rating`."""
    return DataError(
        f"no rating is {min_rating} or higher (the highest is {highest:g}); lower min_rating"
    )


class RowCounter(Protocol):
    """Counts any rows of X; several threads may use it at once."""

    n_items: int
    item_counts: NDArray[np.int64]
    """Number of users of each item, [n_items]."""
    max_entries: NDArray[np.int64]
    """Upper bound of the number of entries of each row, [n_items]."""
    dtype: np.dtype[Any]
    """Type of the counts, an integer, so that sums do not depend on the order."""

    def count_rows(self, start: int, stop: int, buffers: CsrBuffers) -> None:
        """Count rows `start` to `stop`, columns ascending, zeros left out."""


def split_rows(max_entries: NDArray[np.int64], limit: int) -> list[tuple[int, int]]:
    """Split rows into blocks with at most `limit` entries, or of a single row.

    Example:
        >>> split_rows(np.array([3, 3, 9, 1, 1]), limit=6)
        [(0, 2), (2, 3), (3, 5)]
    """
    ends = np.cumsum(max_entries)
    blocks, start, before = [], 0, 0
    while start < len(max_entries):
        stop = max(int(np.searchsorted(ends, before + limit, side="right")), start + 1)
        blocks.append((start, stop))
        start, before = stop, int(ends[stop - 1])
    return blocks


def count_block(
    counter: RowCounter,
    start: int,
    stop: int,
    buffers: tuple[NDArray[np.int32], NDArray[Any]] | None = None,
) -> RowBlock:
    """Count rows `start` to `stop`; the block is a view of the buffers, if there are any."""
    capacity = int(counter.max_entries[start:stop].sum())
    columns, counts = buffers or (np.empty(capacity, np.int32), np.empty(capacity, counter.dtype))
    offsets = np.zeros(stop - start + 1, np.int64)
    counter.count_rows(start, stop, CsrBuffers(offsets, columns, counts))
    n_entries, shape = offsets[-1], (stop - start, counter.n_items)
    return RowBlock(start, make_csr(counts[:n_entries], columns[:n_entries], offsets, shape))


def map_blocks(
    counter: RowCounter,
    function: Callable[[RowBlock], T],
    *,
    threads: int,
    block_entries: int = BLOCK_ENTRIES,
) -> Iterator[T]:
    """Count X block by block, and yield the result of a function for each block, in order.

    The function is called in the thread that counted the block. The block is a view of a buffer
    that is reused: copy what must outlive the call.
    """
    blocks = split_rows(counter.max_entries, block_entries)
    capacity = max((int(counter.max_entries[slice(*block)].sum()) for block in blocks), default=0)
    local = threading.local()

    def count(start: int, stop: int) -> T:
        if not hasattr(local, "buffers"):
            local.buffers = np.empty(capacity, np.int32), np.empty(capacity, counter.dtype)
        return function(count_block(counter, start, stop, local.buffers))

    if threads == 1 or len(blocks) == 1:
        yield from (count(*block) for block in blocks)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="cooccurrence") as pool:
        pending: deque[Future[T]] = deque()
        for block in blocks:
            pending.append(pool.submit(count, *block))
            if len(pending) > 2 * threads:  # bound the results that wait to be consumed
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def entries_per_block(limit: int | None, fixed_bytes: int, n_items: int, threads: int) -> int:
    """Maximum entries of a row block for which counting stays within a memory limit.

    Raises:
        ConfigError: the limit is too low.
    """
    if limit is None:
        return BLOCK_ENTRIES
    least = fixed_bytes + threads * _block_bytes(n_items, n_items)
    if limit < least:
        raise ConfigError(
            f"counting takes at least {format_bytes(least)} of memory, more than memory_limit, "
            f"{format_bytes(limit)}: raise it, or count fewer rows or with fewer threads"
        )
    entries = (limit - fixed_bytes) // threads // _ENTRY_BYTES - 2 * n_items
    return min(max(entries, n_items), BLOCK_ENTRIES)


def _block_bytes(entries: int, n_items: int) -> int:
    return entries * _ENTRY_BYTES + 40 * n_items


@dataclass(frozen=True)
class MemoryEstimate:
    """Expected size of a count."""

    entries: int
    """Non-zero entries of X."""
    counting_bytes: int
    """Peak memory while counting, without the result."""
    matrix_bytes: int
    """Memory of the whole matrix."""
    disk_bytes: int
    """Disk space of the whole matrix as row blocks."""

    def __str__(self) -> str:
        return (
            f"about {self.entries:,} entries; counting takes up to "
            f"{format_bytes(self.counting_bytes)} of memory in addition to the interactions; the "
            f"result takes about {format_bytes(self.matrix_bytes)} of memory, or about "
            f"{format_bytes(self.disk_bytes)} of disk"
        )


@dataclass(frozen=True, eq=False)
class CountPlan:
    """Everything that is needed to count X. Rows are counted on demand."""

    counter: RowCounter
    metadata: CountMetadata
    threads: int
    block_entries: int
    fixed_bytes: int
    """Memory that counting uses apart from the blocks."""

    def map_blocks(self, function: Callable[[RowBlock], T]) -> Iterator[T]:
        """Yield the result of a function for each block of integers, in order."""
        return map_blocks(
            self.counter,
            function,
            threads=self.threads,
            block_entries=self.block_entries,
        )

    def matrix(self) -> sp.csr_array:
        """Count all of X, [n_items, n_items].

        Blocks are released as they are copied into the result, and the pages of the result are
        allocated as they are filled, so that the counts are never in memory twice.
        """
        n_items, scale = self.counter.n_items, self.metadata.scale
        blocks = deque(self.map_blocks(RowBlock.copy))
        lengths = [np.diff(block.matrix.indptr) for block in blocks]
        offsets = np.concatenate([[0], *lengths]).cumsum(dtype=np.int64)
        columns = np.empty(offsets[-1], np.int32)
        counts = np.empty(offsets[-1], self.counter.dtype if scale == 1.0 else np.float64)
        while blocks:
            block = blocks.popleft()
            part = slice(offsets[block.start], offsets[block.stop])
            columns[part] = block.matrix.indices
            counts[part] = block.scaled(scale).matrix.data
        return make_csr(counts, columns, offsets, (n_items, n_items))

    def marginals(self) -> Marginals:
        """How often each item occurs; with a window, this counts X."""
        if self.metadata.window is None:
            return self.metadata.set_marginals()
        rows, columns = np.zeros(self.counter.n_items), np.zeros(self.counter.n_items)
        for start, stop, row_sums, column_sums in self.map_blocks(_sums):
            rows[start:stop] = row_sums
            columns += column_sums
        scale = self.metadata.scale
        return Marginals(rows * scale, columns * scale, float(rows.sum()) * scale)

    def estimate(self) -> MemoryEstimate:
        """Expected size of the count, extrapolated from a sample of the rows."""
        counter = self.counter
        step = -(-counter.n_items // _SAMPLED_ROWS)
        sampled = range(step // 2, counter.n_items, step)
        found = sum(count_block(counter, row, row + 1).matrix.nnz for row in sampled)
        bound = int(counter.max_entries[step // 2 :: step].sum())
        total = int(counter.max_entries.sum())
        entries = round(total * found / bound) if bound else 0
        buffer_bytes = _block_bytes(min(self.block_entries, total), counter.n_items)
        bytes_on_disk = 2 + 2 if counter.n_items <= 2**16 else 4 + 2
        return MemoryEstimate(
            entries=entries,
            counting_bytes=self.fixed_bytes + self.threads * buffer_bytes,
            matrix_bytes=entries * (4 + counter.dtype.itemsize) + 8 * counter.n_items,
            disk_bytes=entries * bytes_on_disk + 8 * counter.n_items,
        )


def _sums(block: RowBlock) -> tuple[int, int, NDArray[Any], NDArray[Any]]:
    return block.start, block.stop, block.matrix.sum(axis=1), block.matrix.sum(axis=0)


def plan_count(
    interactions: Interactions,
    min_rating: float | None,
    *,
    window: Window | None = None,
    memory_limit: int | None = None,
    runtime: Runtime | None = None,
) -> CountPlan:
    """Plan a count; for the arguments, see `count_cooccurrence`.

    Raises:
        DataError: there are no positive interactions, or the window needs missing timestamps.
        ConfigError: `memory_limit` is too low.
    """
    from recsys.cooccurrence.counters import SetCounter, WindowCounter

    histories, timestamp = positive_events(interactions, min_rating)
    n_users, n_items = interactions.n_users, interactions.n_items
    threads = available_threads(runtime)
    event_bytes = 17 if window is None else 48
    fixed_bytes = event_bytes * len(histories.values) + 32 * n_users + 64 * n_items
    block_entries = entries_per_block(memory_limit, fixed_bytes, n_items, threads)
    counter: RowCounter
    if window is None:
        counter = SetCounter(histories, n_items, threads)
    else:
        counter = WindowCounter(histories, n_items, window, timestamp)
    metadata = CountMetadata(
        item_counts=counter.item_counts,
        n_users=n_users,
        min_rating=None if interactions.rating is None else min_rating,
        items=interactions.items,
        window=window,
    )
    return CountPlan(counter, metadata, threads, block_entries, fixed_bytes)
