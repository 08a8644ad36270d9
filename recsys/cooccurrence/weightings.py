"""Similarities of items from their co-occurrence counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.cooccurrence.counts import Cooccurrence


def cosine(counts: Cooccurrence) -> sp.csr_array:
    """Cosine between the sets of users who liked each item: X_ij / √(n_i n_j).

    Also known as the Ochiai coefficient (Salton & McGill 1983). The diagonal stays zero.

    Returns:
        float32, symmetric, [n_items, n_items], non-zero where the counts are.
    """
    scale = 1.0 / np.sqrt(np.maximum(counts.item_counts, 1))
    weighted = counts.matrix.astype(np.float64).tocoo()
    rows, cols = weighted.coords
    data = (weighted.data * scale[rows] * scale[cols]).astype(np.float32)
    return sp.csr_array((data, (rows, cols)), shape=weighted.shape)


def keep_top_k(matrix: sp.csr_array, k: int) -> sp.csr_array:
    """Keep the k largest entries of each row; of equal ones those with the lower column.

    Args:
        matrix: sparse, columns sorted within each row, [n, m].
        k: how many entries to keep in each row.
    """
    kept = [
        start + _largest(matrix.data[start:stop], k)
        for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)
    ]
    positions = np.concatenate(kept) if kept else np.empty(0, np.intp)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in kept])])
    return sp.csr_array(
        (matrix.data[positions], matrix.indices[positions], offsets), shape=matrix.shape
    )


def _largest(values: NDArray[Any], k: int) -> NDArray[np.intp]:
    """Positions of the k largest values, ascending; of equal ones the first."""
    if len(values) <= k:
        return np.arange(len(values))
    threshold = np.partition(values, len(values) - k)[len(values) - k]
    above = np.flatnonzero(values > threshold)
    equal = np.flatnonzero(values == threshold)
    return np.sort(np.concatenate([above, equal[: k - len(above)]]))
