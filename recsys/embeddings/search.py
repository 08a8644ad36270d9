"""Exact search for the nearest vectors, block by block."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Similarity = Literal["cosine", "dot"]


def scale_rows(vectors_ND: NDArray[np.floating], similarity: Similarity) -> NDArray[np.float32]:
    """The vectors whose dot products are the similarity; zero vectors stay zero, [n, d]."""
    if similarity == "dot":
        return vectors_ND.astype(np.float32)
    norms_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return (vectors_ND / np.where(norms_N1 > 0, norms_N1, 1)).astype(np.float32)


def nearest(
    queries_BD: NDArray[np.float32],
    vectors_ND: NDArray[np.float32],
    k: int,
    *,
    exclude_BE: NDArray[np.integer] | None = None,
    similarity: Similarity = "cosine",
    block: int = 1024,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k vectors most similar to each query; zero vectors are similar to nothing.

    Args:
        queries_BD: what to look near to.
        vectors_ND: what to look among.
        k: how many.
        exclude_BE: indices not to give, for each query; -1 stands for none.
        similarity: cosine, or the dot product, which favours long vectors.
        block: queries answered at once, to bound memory.

    Returns:
        Indices and similarities, best first, ties by index, both [B, k]. Index -1 and similarity
        0 fill the row of a zero query, or where there are no more vectors.
    """
    queries_BD, vectors_ND = (scale_rows(x, similarity) for x in (queries_BD, vectors_ND))
    has_vector_N = np.any(vectors_ND != 0, axis=1)
    index = np.full((len(queries_BD), k), -1, dtype=np.int32)
    score = np.zeros((len(queries_BD), k), dtype=np.float32)
    for start in range(0, len(queries_BD), block):
        rows = start + np.flatnonzero(queries_BD[start : start + block].any(axis=1))
        scores_BN = queries_BD[rows] @ vectors_ND.T
        scores_BN[:, ~has_vector_N] = -np.inf
        if exclude_BE is not None:
            of, which = np.nonzero(exclude_BE[rows] >= 0)
            scores_BN[of, exclude_BE[rows][of, which]] = -np.inf
        best = top_k(scores_BN, min(k, len(vectors_ND)))
        found = np.take_along_axis(scores_BN, best, axis=1)
        width = best.shape[1]
        index[rows, :width] = np.where(found > -np.inf, best, -1)
        score[rows, :width] = np.where(found > -np.inf, found, 0)
    return index, score


def top_k(scores_BN: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Column indices of the k largest scores of each row, best first, ties by index, [B, k]."""
    n_items = scores_BN.shape[1]
    if k >= n_items:
        return np.argsort(-scores_BN, axis=1, kind="stable")
    best = np.empty((len(scores_BN), k), dtype=np.int64)
    if k == 0:
        return best
    for row, scores in enumerate(scores_BN):
        # All that reach the k-th largest value: a partition alone would break ties at random.
        candidates = np.flatnonzero(scores >= np.partition(scores, n_items - k)[n_items - k])
        best[row] = candidates[np.argsort(-scores[candidates], kind="stable")[:k]]
    return best
