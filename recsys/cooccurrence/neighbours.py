"""The few largest entries of each row."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from recsys.cooccurrence.rows import csr_of


def keep_top_k(matrix: sp.csr_array, k: int) -> sp.csr_array:
    """Keep the k largest entries of each row; of equal ones those with the lower column.

    Args:
        matrix: sparse, columns sorted within each row, [n, m].
        k: how many entries to keep in each row.
    """
    from recsys.cooccurrence.selection import top_positions

    offsets, positions = top_positions(matrix.indptr.astype(np.int64), matrix.data, k)
    return csr_of(matrix.data[positions], matrix.indices[positions], offsets, matrix.shape)
