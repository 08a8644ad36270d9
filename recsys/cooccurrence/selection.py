"""Choosing the largest of many numbers, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.cooccurrence.kernels import compiled


@compiled
def top_positions(
    offsets: NDArray[np.int64], values: NDArray[Any], k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the k largest values of each row are, ascending; of equal ones the first.

    Returns:
        The offsets of the rows among the positions, and the positions in `values`.
    """
    kept = np.zeros_like(offsets)
    for row in range(len(offsets) - 1):
        kept[row + 1] = kept[row] + min(offsets[row + 1] - offsets[row], k)
    positions = np.empty(kept[-1], np.int64)
    heap = np.empty(k, values.dtype)
    for row in range(len(offsets) - 1):
        start, stop, filled = offsets[row], offsets[row + 1], kept[row]
        if stop - start <= k:
            positions[filled : kept[row + 1]] = np.arange(start, stop)
            continue
        threshold = _kth_largest(values[start:stop], heap)
        spare = k - np.sum(values[start:stop] > threshold)  # places for those equal to it
        for position in range(start, stop):
            is_equal = values[position] == threshold
            if values[position] > threshold or (is_equal and spare > 0):
                positions[filled] = position
                filled += 1
                spare -= is_equal
    return kept, positions


@compiled
def _kth_largest(values: NDArray[Any], heap: NDArray[Any]) -> Any:
    """The k-th largest of at least k values, by a heap of the k largest so far, least on top."""
    k = len(heap)
    heap[:] = np.sort(values[:k])  # sorted is a heap
    for value in values[k:]:
        if value <= heap[0]:
            continue
        hole, child = 0, 1
        while child < k:
            if child + 1 < k and heap[child + 1] < heap[child]:
                child += 1
            if heap[child] >= value:
                break
            heap[hole] = heap[child]
            hole, child = child, 2 * child + 1
        heap[hole] = value
    return heap[0]
