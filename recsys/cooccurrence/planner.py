"""Planning a count: the positive interactions, the counter, memory, and blocks of rows."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.arguments import require, require_type
from recsys.config import Runtime, available_threads
from recsys.cooccurrence.config import MinRating, Window, resolve_min_rating
from recsys.cooccurrence.matrix import (
    CountMetadata,
    CsrBuffers,
    Marginals,
    RaggedArray,
    RowBlock,
    make_csr,
)
from recsys.data import Interactions
from recsys.data.options import WEIGHT_DECIMALS
from recsys.errors import ConfigError, DataError
from recsys.memory import format_bytes

if TYPE_CHECKING:
    from recsys.cooccurrence.counters import RowCounter

T = TypeVar("T")

BLOCK_ENTRIES: Final = 2_000_000
"""Maximum entries of a block, unless one row has more. Blocks that fit the cache are fastest."""
_ENTRY_BYTES: Final = 24
"""Memory per entry of a block: a column and a count, and a copy of both where they are used."""
_SAMPLED_ROWS: Final = 256


class PositiveEvents(NamedTuple):
    """The interactions that count."""

    histories: RaggedArray
    """Items of each user, oldest first."""
    timestamp: NDArray[np.int64] | None
    """Time of each event in seconds, [n]; None if unknown."""
    weight: NDArray[np.float32] | None = None
    """How much each event counts, [n]; None if all count 1."""


def positive_events(
    interactions: Interactions, min_rating: float | None, *, allow_empty: bool = False
) -> PositiveEvents:
    """Select the interactions that count: those rated `min_rating` or higher, or all of them.

    Events of weight 0 do not count.

    Raises:
        DataError: there are none. Not raised if `allow_empty`.
    """
    if not len(interactions) and not allow_empty:
        raise DataError("there are no interactions to count")
    offsets, items = interactions.user_offsets, interactions.item_index
    timestamp, weight = interactions.timestamp, interactions.weight
    mask = np.ones(len(items), np.bool_) if weight is None else weight > 0
    if min_rating is not None and interactions.rating is not None:
        mask &= interactions.rating >= min_rating
        if not mask.any() and not allow_empty:
            raise no_positives_error(min_rating, interactions.rating.max())
    if not mask.any() and not allow_empty:
        raise DataError("no event counts: give one of its kinds a weight above 0 with events=")
    if not mask.all():
        offsets = np.concatenate([[0], np.cumsum(mask)])[offsets]
        items = items[mask]
        timestamp = None if timestamp is None else timestamp[mask]
        weight = None if weight is None else weight[mask]
    return PositiveEvents(RaggedArray(offsets, items), timestamp, weight)


def to_whole(weight: NDArray[np.float32]) -> tuple[NDArray[np.int64], int]:
    """Weights as whole numbers, [n], of the largest unit that fits, and its number in 1.

    Raises:
        DataError: a weight has more than four decimals.
    """
    distinct, code = np.unique(weight, return_inverse=True)
    for per_unit in (10**decimals for decimals in range(WEIGHT_DECIMALS + 1)):
        whole = np.rint(distinct.astype(np.float64) * per_unit).astype(np.int64)
        if np.array_equal((whole / per_unit).astype(np.float32), distinct):
            return whole[code], per_unit
    raise DataError(f"a weight of events has more than {WEIGHT_DECIMALS} decimals: round it")


def no_positives_error(min_rating: float | None, highest: float) -> DataError:
    """The error for data in which no rating reaches `min_rating`."""
    return DataError(
        f"no rating is {min_rating} or higher (the highest is {highest:g}); lower min_rating"
    )


def split_rows(max_entries: NDArray[np.int64], limit: int) -> list[tuple[int, int]]:
    """Split rows into blocks, start and stop, with at most `limit` entries or of a single row."""
    ends = np.cumsum(max_entries)
    blocks, start, before = [], 0, 0
    while start < len(max_entries):
        stop = max(int(np.searchsorted(ends, before + limit, side="right")), start + 1)
        blocks.append((start, stop))
        start, before = stop, int(ends[stop - 1])
    return blocks


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


@dataclass(frozen=True, eq=False)
class CountPlan:
    """Everything that is needed to count X. Rows are counted on demand."""

    counter: RowCounter
    metadata: CountMetadata
    threads: int
    block_entries: int
    fixed_bytes: int
    """Memory that counting uses apart from the blocks."""

    def blocks(self) -> list[tuple[int, int]]:
        """The first row of each block, and the one after its last."""
        return split_rows(self.counter.max_entries, self.block_entries)

    def count_block(
        self, start: int, stop: int, buffers: tuple[NDArray[np.int32], NDArray[Any]] | None = None
    ) -> RowBlock:
        """Count rows `start` to `stop`; the block is a view of the buffers, if there are any."""
        columns, counts = buffers or self._buffers(self.counter.max_entries[start:stop].sum())
        offsets = np.zeros(stop - start + 1, np.int64)
        self.counter.count_rows(start, stop, CsrBuffers(offsets, columns, counts))
        n_entries, shape = offsets[-1], (stop - start, self.metadata.n_items)
        return RowBlock(start, make_csr(counts[:n_entries], columns[:n_entries], offsets, shape))

    def _buffers(self, capacity: int) -> tuple[NDArray[np.int32], NDArray[Any]]:
        return np.empty(capacity, np.int32), np.empty(capacity, self.counter.dtype)

    def map_blocks(self, function: Callable[[RowBlock], T]) -> Iterator[T]:
        """Count X block by block, and yield the result of a function for each block, in order.

        The function is called in the thread that counted the block. The block has integers, and
        is a view of a buffer that is reused: copy what must outlive the call.
        """
        max_entries, local, blocks = self.counter.max_entries, threading.local(), self.blocks()
        capacity = max((int(max_entries[slice(*block)].sum()) for block in blocks), default=0)

        def count(start: int, stop: int) -> T:
            if not hasattr(local, "buffers"):
                local.buffers = self._buffers(capacity)
            return function(self.count_block(start, stop, local.buffers))

        if self.threads == 1 or len(blocks) == 1:
            yield from (count(*block) for block in blocks)
            return
        with ThreadPoolExecutor(self.threads, thread_name_prefix="cooccurrence") as pool:
            pending: deque[Future[T]] = deque()
            for block in blocks:
                pending.append(pool.submit(count, *block))
                if len(pending) > 2 * self.threads:  # bound the results that wait to be consumed
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def matrix(self) -> sp.csr_array:
        """Count all of X, [n_items, n_items].

        Blocks are released as they are copied into the result, and the pages of the result are
        allocated as they are filled, so that the counts are never in memory twice.
        """
        n_items, divisor = self.metadata.n_items, self.metadata.divisor
        blocks = deque(self.map_blocks(RowBlock.copy))
        lengths = [np.diff(block.matrix.indptr) for block in blocks]
        offsets = np.concatenate([[0], *lengths]).cumsum(dtype=np.int64)
        columns = np.empty(offsets[-1], np.int32)
        counts = np.empty(offsets[-1], self.counter.dtype if divisor == 1 else np.float64)
        while blocks:
            block = blocks.popleft()
            part = slice(offsets[block.start], offsets[block.stop])
            columns[part] = block.matrix.indices
            counts[part] = block.divided(divisor).matrix.data
        return make_csr(counts, columns, offsets, (n_items, n_items))

    def marginals(self) -> Marginals:
        """How often each item occurs; with a window, this counts X."""
        if self.metadata.window is None:
            return self.metadata.set_marginals()
        rows, columns = np.zeros(self.metadata.n_items), np.zeros(self.metadata.n_items)
        for start, row_sums, column_sums in self.map_blocks(
            lambda block: (block.start, block.matrix.sum(axis=1), block.matrix.sum(axis=0))
        ):
            rows[start : start + len(row_sums)] = row_sums
            columns += column_sums
        divisor = self.metadata.divisor
        return Marginals(rows / divisor, columns / divisor, float(rows.sum()) / divisor)

    def estimate(self) -> tuple[int, int]:
        """Expected bytes of memory: the peak while counting, and the matrix in addition.

        The number of entries is extrapolated from a sample of the rows.
        """
        n_items, max_entries = self.metadata.n_items, self.counter.max_entries
        step = -(-n_items // _SAMPLED_ROWS)
        sampled = range(step // 2, n_items, step)
        found = sum(self.count_block(row, row + 1).matrix.nnz for row in sampled)
        bound, total = int(max_entries[step // 2 :: step].sum()), int(max_entries.sum())
        entries = round(total * found / bound) if bound else 0
        buffer_bytes = _block_bytes(min(self.block_entries, total), n_items)
        matrix_bytes = entries * (4 + self.counter.dtype.itemsize) + 8 * n_items
        return self.fixed_bytes + self.threads * buffer_bytes, matrix_bytes


def plan_count(
    interactions: Interactions,
    min_rating: MinRating,
    *,
    window: Window | None = None,
    memory_limit: int | None = None,
    runtime: Runtime | None = None,
    allow_empty: bool = False,
) -> CountPlan:
    """Plan a count; the arguments and errors are those of `count_cooccurrence`."""
    from recsys.cooccurrence.counters import set_counter, weighted_counter, window_counter

    require_type(interactions, Interactions, "read_ratings")
    require(Window | None, window=window)
    require(Runtime | None, runtime=runtime)
    min_rating = resolve_min_rating(min_rating, interactions)
    positive = positive_events(interactions, min_rating, allow_empty=allow_empty)
    histories, timestamp, weight = positive
    if window is not None and weight is not None:
        raise ConfigError(
            "a window counts pairs of events without weights: leave window out, or count "
            "`interactions.sequence()`, the events that form the histories"
        )
    n_users, n_items = interactions.n_users, interactions.n_items
    threads = available_threads(runtime)
    event_bytes = 64 if weight is not None else 17 if window is None else 48
    fixed_bytes = event_bytes * len(histories.values) + 32 * n_users + 64 * n_items
    block_entries = entries_per_block(memory_limit, fixed_bytes, n_items, threads)
    if weight is not None:
        counter = weighted_counter(histories, n_items, *to_whole(weight))
    elif window is None:
        counter = set_counter(histories, n_items, threads)
    else:
        counter = window_counter(histories, n_items, window, timestamp)
    metadata = CountMetadata(
        item_counts=counter.item_counts,
        n_users=n_users,
        min_rating=None if interactions.rating is None else min_rating,
        items=interactions.items,
        window=window,
        weights=counter.weights,
    )
    return CountPlan(counter, metadata, threads, block_entries, fixed_bytes)
