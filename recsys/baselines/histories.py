"""Histories as a matrix, for models that do not mind the order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.data.interactions import offsets_of


def history_matrix(histories: Sequence[NDArray[np.int32]], n_items: int) -> sp.csr_array:
    """One where a history has an item, else zero: float32, [B, n_items]."""
    offsets = offsets_of(np.array([len(history) for history in histories], dtype=np.int64))
    items = np.concatenate([*histories, np.empty(0, np.int32)])
    ones = np.ones(len(items), dtype=np.float32)
    matrix = sp.csr_array((ones, items, offsets), shape=(len(histories), n_items))
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix
