"""The k largest scores: of the rows of a dense array, and of the rows of a sparse matrix.

Shapes: B rows, N items, G groups.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.cooccurrence.rows import csr_of

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

_GROUPS = 256


def top_k(scores_BN: Floats, k: int) -> tuple[Indices, Indices]:
    """The items with the k highest scores of each row, best first, ties by index.

    Never one of minus infinity, so that a row may have fewer. A sort of 60,000 scores takes
    milliseconds. Instead: the k-th highest among the maxima of many groups of items is reached by
    at least k items, and by few more, and only these are sorted.

    Returns:
        Row and item of each, row after row.

    Example:
        >>> scores = np.array([[0.1, 0.7, -np.inf, 0.7], [0.3, 0.2, 0.1, 0.0]], dtype=np.float32)
        >>> [part.tolist() for part in top_k(scores, k=3)]
        [[0, 0, 0, 1, 1, 1], [1, 3, 0, 0, 1, 2]]
    """
    n_rows, n_items = scores_BN.shape
    bound_B = np.full(n_rows, np.finfo(np.float32).min)
    groups = max(_GROUPS, 16 * k)
    if n_items >= 2 * groups:
        depth = n_items // groups
        maxima_BG = scores_BN[:, : depth * groups].reshape(n_rows, depth, groups).max(axis=1)
        maxima_BG.partition(groups - k, axis=1)
        np.maximum(bound_B, maxima_BG[:, groups - k], out=bound_B)
    candidates = np.flatnonzero(scores_BN >= bound_B[:, None])
    row, item = np.divmod(candidates, n_items)
    order = np.lexsort((-scores_BN[row, item], row))  # stable: of equal ones the first
    row, item = row[order], item[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    return row[place < k], item[place < k]


def keep_top_k(matrix: sp.csr_array, k: int) -> sp.csr_array:
    """Keep the k largest entries of each row; of equal ones those with the lower column.

    Args:
        matrix: sparse, columns sorted within each row, [n, m].
        k: how many entries to keep in each row.
    """
    from recsys.cooccurrence.selection import top_positions

    offsets, positions = top_positions(matrix.indptr.astype(np.int64), matrix.data, k)
    return csr_of(matrix.data[positions], matrix.indices[positions], offsets, matrix.shape)
