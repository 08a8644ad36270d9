"""Vectors from what is watched soon after what: where the item vectors of a session model start."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import eigsh

from recsys.config import Runtime
from recsys.cooccurrence import WeightingConfig, Window, count_cooccurrence, weight
from recsys.data import Interactions
from recsys.errors import DataError

SIZE = 5
"""Watches at most this far apart are a pair."""


def ppmi_embeddings(
    interactions: Interactions, dim: int, *, size: int = SIZE, runtime: Runtime | None = None
) -> NDArray[np.float32]:
    """Factorise how much more often items are watched close together than by chance.

    The leading eigenvectors of the positive pointwise mutual information of pairs within a window,
    each scaled by the root of its eigenvalue, so that products of vectors approach it (Levy &
    Goldberg 2014, "Neural word embedding as implicit matrix factorization", §5, with α = 1/2).

    Args:
        interactions: who watched what, in order; every row counts, whatever its rating.
        dim: length of the vectors; those of a catalogue of `dim` items or fewer are shorter.
        size: the window, in watches to either side.
        runtime: seed of the eigensolver's start, and threads.

    Returns:
        One vector per item, [n_items, dim], the leading component first.

    Raises:
        DataError: no two different items are watched within the window, or none more often than
            by chance.
    """
    runtime = runtime or Runtime()
    counts = count_cooccurrence(interactions, None, window=Window(size=size), runtime=runtime)
    ppmi = weight(counts, WeightingConfig(name="ppmi"))
    if not ppmi.nnz:
        raise DataError(f"no two items are watched within {size} watches more often than by chance")
    start = np.random.default_rng(runtime.seed).normal(size=counts.n_items)
    k = min(dim, counts.n_items - 1)
    values, vectors = eigsh(ppmi.astype(np.float64), k=k, which="LA", v0=start)
    scaled = vectors * np.sqrt(np.maximum(values, 0.0))  # a negative one has no real root
    return np.ascontiguousarray(scaled[:, ::-1], dtype=np.float32)
