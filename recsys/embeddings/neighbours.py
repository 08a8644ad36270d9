"""Nearest neighbours among vectors, exact and approximate.

Approximate search uses faiss (extra `[ann]`), which partitions the vectors into cells and probes
the few nearest to each query (Johnson, Douze & Jégou 2021, "Billion-scale similarity search with
GPUs"). The number of probes is doubled until the recall on a sample of queries is high enough.
"""

from __future__ import annotations

import importlib.util
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recsys.cooccurrence import top_k
from recsys.errors import ConfigError

Floats = NDArray[np.float32]
Similarity = Literal["cosine", "dot"]
Neighbours = tuple[NDArray[np.int32], Floats]
"""Indices and similarities, best first, ties by index, both [B, k]. Missing neighbours have index
-1 and similarity 0."""

ANN_THRESHOLD = 200_000  # vectors above which neighbours are approximate by default


def scale_rows(vectors_ND: NDArray[np.floating], similarity: Similarity) -> Floats:
    """Scale vectors so that their dot product is the similarity; zero vectors remain zero."""
    if similarity == "dot":
        return vectors_ND.astype(np.float32)
    norms_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return (vectors_ND / np.where(norms_N1 > 0, norms_N1, 1)).astype(np.float32)


def knn(
    queries_BD: Floats,
    vectors_ND: Floats,
    k: int,
    *,
    exclude_BE: NDArray[np.integer] | None = None,
    similarity: Similarity = "cosine",
    block_size: int = 1024,
) -> Neighbours:
    """The k vectors most similar to each query, by exact search.

    Zero vectors match nothing. `exclude_BE` are indices to exclude for each query, padded with
    -1. `block_size` queries are processed at once, to limit memory.
    """
    queries_BD, vectors_ND = (scale_rows(x, similarity) for x in (queries_BD, vectors_ND))
    is_zero_N = ~vectors_ND.any(axis=1)
    index, score = _no_neighbours(len(queries_BD), k)
    for start in range(0, len(queries_BD), block_size):
        rows = start + np.flatnonzero(queries_BD[start : start + block_size].any(axis=1))
        scores_BN = queries_BD[rows] @ vectors_ND.T
        scores_BN[:, is_zero_N] = -np.inf
        if exclude_BE is not None:
            row, column = np.nonzero(exclude_BE[rows] >= 0)
            scores_BN[row, exclude_BE[rows][row, column]] = -np.inf
        row, item = top_k(scores_BN, min(k, len(vectors_ND)))
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        index[rows[row], rank] = item
        score[rows[row], rank] = scores_BN[row, item]
    return index, score


def approximate_knn(
    vectors_ND: Floats, k: int, *, similarity: Similarity = "cosine", target_recall: float = 0.95
) -> tuple[Neighbours, float]:
    """The k vectors most similar to each vector, excluding itself; a few may be missed.

    Returns:
        The neighbours, and their recall as measured on a random sample of the vectors.

    Raises:
        ConfigError: faiss is not installed.
    """
    if not has_faiss():
        raise ConfigError("approximate neighbours need faiss: pip install -e '.[ann]'")
    scaled_ND = scale_rows(vectors_ND, similarity)
    nonzero = np.flatnonzero(scaled_ND.any(axis=1))
    index, score = _no_neighbours(len(vectors_ND), k)
    if not len(nonzero):
        return (index, score), 1.0
    cells = _CellIndex(np.ascontiguousarray(scaled_ND[nonzero]))
    # With a margin, so that other queries than the sampled ones reach the target.
    reached = cells.tune_nprobe(min(target_recall + 0.02, 1.0), k)
    found, score[nonzero] = cells.search(np.arange(len(nonzero)), k)
    index[nonzero] = np.where(found >= 0, nonzero[found], -1)
    return (index, score), reached


def has_faiss() -> bool:
    """Whether faiss is installed."""
    return importlib.util.find_spec("faiss") is not None


def recall(found: NDArray[np.integer], exact: NDArray[np.integer]) -> float:
    """The fraction of the exact neighbours that were found; index -1 is padding."""
    is_found = (exact[:, :, None] == found[:, None, :]).any(axis=2)[exact >= 0]
    return float(is_found.mean()) if len(is_found) else 1.0


class _CellIndex:
    """Vectors partitioned into cells, of which each query probes the nearest few."""

    def __init__(self, vectors_MD: Floats) -> None:
        import faiss

        n_vectors, dim = vectors_MD.shape
        self._vectors_MD = vectors_MD
        self._n_cells = max(1, min(int(4.0 * n_vectors**0.5), n_vectors // 39))
        kind = f"IVF{self._n_cells},Flat"
        self._index: Any = faiss.index_factory(dim, kind, faiss.METRIC_INNER_PRODUCT)
        self._index.train(vectors_MD)
        self._index.add(vectors_MD)

    def tune_nprobe(self, target_recall: float, k: int) -> float:
        """Double `nprobe` until a sample of queries reaches a recall; return that recall."""
        vectors_MD = self._vectors_MD
        n_sampled = min(256, len(vectors_MD))
        sample = np.random.default_rng(0).choice(len(vectors_MD), n_sampled, replace=False)
        own_B1 = sample[:, None]
        exact, _ = knn(vectors_MD[sample], vectors_MD, k, exclude_BE=own_B1, similarity="dot")
        nprobe = 1
        while True:
            self._index.nprobe = nprobe
            reached = recall(self.search(sample, k)[0], exact)
            if reached >= target_recall or nprobe == self._n_cells:
                return reached
            nprobe = min(2 * nprobe, self._n_cells)

    def search(self, rows: NDArray[np.integer], k: int) -> Neighbours:
        """The k nearest neighbours of the given vectors."""
        score, index = self._index.search(self._vectors_MD[rows], k + 1)
        # By dot product, a vector need not be among its own nearest.
        score[(index == rows[:, None]) | (index < 0)] = -np.inf
        order = np.lexsort((index, -score), axis=1)[:, :k]
        index, score = (np.take_along_axis(x, order, axis=1) for x in (index, score))
        is_found = score > -np.inf
        return np.where(is_found, index, -1).astype(np.int32), np.where(is_found, score, 0)


def _no_neighbours(n_rows: int, k: int) -> Neighbours:
    return np.full((n_rows, k), -1, dtype=np.int32), np.zeros((n_rows, k), dtype=np.float32)
