"""The k largest scores of each row of a dense array or of a sparse matrix.

Shapes: B rows, N items, G groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import scipy.sparse as sp

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

_GROUPS = 256


def top_k(scores_BN: Floats, k: int) -> tuple[Indices, Indices]:
    """The items with the k highest scores of each row, best first; ties go to the lower index.

    Scores of minus infinity are left out, so a row can have fewer than k items. Sorting all
    scores would be slow for a large catalogue. Instead, a lower bound of the k-th highest score
    is taken from the maxima of groups of items, and only scores that reach it are sorted.

    Returns:
        Row and item of each result, row after row.

    Example:
        >>> scores = np.array([[0.1, 0.7, -np.inf, 0.7], [0.3, 0.2, 0.1, 0.0]], dtype=np.float32)
        >>> [part.tolist() for part in top_k(scores, k=3)]
        [[0, 0, 0, 1, 1, 1], [1, 3, 0, 0, 1, 2]]
    """
    n_rows, n_items = scores_BN.shape
    if k == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    bound_B = np.full(n_rows, np.finfo(np.float32).min)
    groups = max(_GROUPS, 16 * k)
    if n_items >= 2 * groups:
        depth = n_items // groups
        maxima_BG = scores_BN[:, : depth * groups].reshape(n_rows, depth, groups).max(axis=1)
        maxima_BG.partition(groups - k, axis=1)
        np.maximum(bound_B, maxima_BG[:, groups - k], out=bound_B)
    candidates = np.flatnonzero(scores_BN >= bound_B[:, None])
    row, item = np.divmod(candidates, n_items)
    order = np.lexsort((-scores_BN[row, item], row))  # stable, so ties keep the order of items
    row, item = row[order], item[order]
    position = np.arange(len(row)) - np.searchsorted(row, row)
    return row[position < k], item[position < k]


def keep_top_k(matrix: sp.csr_array, k: int) -> sp.csr_array:
    """Keep the k largest entries of each row; ties go to the lower column.

    Args:
        matrix: sparse, columns sorted within each row, [n, m].
        k: number of entries to keep in each row.
    """
    from recsys.cooccurrence.kernels import top_positions
    from recsys.cooccurrence.matrix import make_csr

    offsets, positions = top_positions(matrix.indptr.astype(np.int64), matrix.data, k)
    return make_csr(matrix.data[positions], matrix.indices[positions], offsets, matrix.shape)
