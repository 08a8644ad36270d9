"""Work that is shared out among threads: compiled loops release the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


def equal_parts(offsets: NDArray[np.int64], n: int) -> list[tuple[int, int]]:
    """Cut lists into at most n runs of about as many values each.

    Example:
        >>> equal_parts(np.array([0, 5, 6, 7, 12]), 2)
        [(0, 2), (2, 4)]
    """
    ends = np.searchsorted(offsets, offsets[-1] * np.arange(1, n) // n)
    bounds = np.unique([0, *ends, len(offsets) - 1]).tolist()
    return list(pairwise(bounds))


def side_by_side(work: Callable[..., T], parts: Sequence[tuple[Any, ...]]) -> list[T]:
    """What comes out for the arguments of each part, each worked on by a thread of its own."""
    if len(parts) <= 1:
        return [work(*part) for part in parts]
    with ThreadPoolExecutor(len(parts), thread_name_prefix="cooccurrence") as pool:
        return list(pool.map(work, *zip(*parts, strict=True)))
