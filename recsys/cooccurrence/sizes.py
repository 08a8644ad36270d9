"""What a count will take: memory while it runs, entries and bytes of what comes out."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from recsys.cooccurrence.plan import HEAD_BYTES, Budget
from recsys.cooccurrence.rows import BLOCK_ENTRIES, RowCounter
from recsys.errors import ConfigError

_UNITS: Final = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS_PATTERN: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?B)?\s*", re.IGNORECASE)
_SAMPLED_ROWS: Final = 256
_ENTRY_BYTES: Final = 24
"""Memory for an entry of a block: a column and a count, and again where the block is used."""


def parse_bytes(size: str | int) -> int:
    """Bytes from a number or a text such as "2GB" or "500 MB"; a KB has 1,000 bytes.

    Raises:
        ConfigError: it is no size.

    Example:
        >>> parse_bytes("1.5GB")
        1500000000
    """
    found = _UNITS_PATTERN.fullmatch(str(size))
    if found is None:
        raise ConfigError(f"{size!r} is no size in bytes: give a number, or one like '2GB'")
    unit = (found[2] or "").upper()
    return int(float(found[1]) * _UNITS.get(unit, 1))


def format_bytes(size: float) -> str:
    """A size for people.

    Example:
        >>> format_bytes(1_540_000_000)
        '1.54 GB'
    """
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


@dataclass(frozen=True)
class Forecast:
    """What a count is expected to take."""

    entries: int
    """Non-zero entries of X, about."""
    counting_bytes: int
    """Memory while counting, the result not included, at most."""
    matrix_bytes: int
    """Memory of the whole matrix, about."""
    disk_bytes: int
    """Disk space of the whole matrix in row blocks, about."""

    def __str__(self) -> str:
        return (
            f"about {self.entries:,} entries; counting takes up to "
            f"{format_bytes(self.counting_bytes)} of memory beside the interactions; the result "
            f"takes about {format_bytes(self.matrix_bytes)} of memory, or about "
            f"{format_bytes(self.disk_bytes)} of disk"
        )


def fixed_bytes(n_likes: int, n_users: int, n_items: int, by_event: bool) -> int:
    """Memory that counting takes in any case: the likes by user and by item, and row sums."""
    each = 48 if by_event else 17  # events have positions and times; both have a mask at first
    return each * n_likes + 32 * n_users + 64 * n_items


def budget_within(limit: int | None, fixed: int, n_items: int, threads: int) -> Budget:
    """What is left of the memory for packed bits and row blocks.

    Args:
        limit: the most bytes that counting may take; None for no limit.
        fixed: the bytes that it takes in any case.
        n_items: size of the catalogue: a block holds at least one row.
        threads: each has a block.

    Raises:
        ConfigError: not enough is left.
    """
    if limit is None:
        return Budget()
    least = fixed + threads * _block_bytes(n_items, n_items)
    if limit < least:
        raise ConfigError(
            f"counting takes at least {format_bytes(least)} of memory, more than memory_limit, "
            f"{format_bytes(limit)}: raise it, or count fewer rows or with fewer threads"
        )
    left = limit - fixed
    entries = left // 2 // threads // _ENTRY_BYTES - n_items
    budget = Budget(block_entries=min(max(entries, n_items), BLOCK_ENTRIES))
    blocks = threads * _block_bytes(budget.block_entries, n_items)
    return replace(budget, head_bytes=min(left - blocks, HEAD_BYTES))


def forecast(rows: RowCounter, fixed: int, budget: Budget, threads: int) -> Forecast:
    """What a count will take, the number of entries being estimated from some rows."""
    entries = estimate_entries(rows)
    room = min(budget.block_entries, int(rows.bounds.sum()))
    on_disk = 2 + 2 if rows.n_items <= 2**16 else 4 + 2
    return Forecast(
        entries=entries,
        counting_bytes=fixed + rows.head_bytes + threads * _block_bytes(room, rows.n_items),
        matrix_bytes=entries * (4 + rows.dtype.itemsize) + 8 * rows.n_items,
        disk_bytes=entries * on_disk + 8 * rows.n_items,
    )


def _block_bytes(entries: int, n_items: int) -> int:
    return entries * _ENTRY_BYTES + 40 * n_items


def estimate_entries(rows: RowCounter) -> int:
    """About how many entries X has, from every so many-th row."""
    step = -(-rows.n_items // _SAMPLED_ROWS)
    sampled = range(step // 2, rows.n_items, step)
    offsets = np.zeros(2, np.int64)
    room = int(rows.bounds.max(initial=0))
    columns, counts = np.empty(room, np.int32), np.empty(room, rows.dtype)
    shares, bounds = 0, 0
    for item in sampled:
        rows.fill(item, item + 1, offsets, columns, counts)
        shares, bounds = shares + int(offsets[1]), bounds + int(rows.bounds[item])
    # In proportion to the bounds, which are known for all rows, rather than to their number.
    return round(int(rows.bounds.sum()) * shares / bounds) if bounds else 0
