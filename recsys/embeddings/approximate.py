"""Nearest vectors found among millions, nearly all of them, and how many is measured.

faiss (extra `[ann]`) sorts the vectors into cells and looks for each query into the nearest few
(Johnson, Douze & Jégou 2021, "Billion-scale similarity search with GPUs"). How few is not a
setting: it is doubled until a sample of queries finds enough of what exact search finds.
"""

from __future__ import annotations

import importlib.util
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.embeddings.search import Similarity, nearest, scale_rows
from recsys.errors import ConfigError

WORTH_IT = 200_000
"""Vectors from which on the neighbours of all are sought approximately."""

RECALL = 0.95
_MARGIN = 0.02
"""How much better than asked for a sample has to do, so that the rest does as well."""

_SAMPLE = 256
_CELLS = 4.0
"""Cells, in roots of the number of vectors."""


class Approximation(NamedTuple):
    """Neighbours, as `nearest` gives them, and what share of the exact ones is among them."""

    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    recall: float
    """Measured on a sample of the vectors."""


def is_available() -> bool:
    """Whether faiss is installed."""
    return importlib.util.find_spec("faiss") is not None


def approximate_neighbours(
    vectors_ND: NDArray[np.float32],
    k: int,
    *,
    similarity: Similarity = "cosine",
    recall: float = RECALL,
    seed: int = 0,
) -> Approximation:
    """The k vectors most similar to each, itself left out; a few may be missed.

    Args:
        vectors_ND: among which to look; zero vectors are similar to nothing.
        k: how many.
        similarity: cosine or dot product.
        recall: the share of the exact neighbours that has to be found.
        seed: of the sample.

    Raises:
        ConfigError: faiss is not installed.
    """
    if not is_available():
        raise ConfigError("approximate neighbours need faiss: pip install -e '.[ann]'")
    scaled_ND = scale_rows(vectors_ND, similarity)
    known = np.flatnonzero(scaled_ND.any(axis=1))
    found = Approximation(
        np.full((len(vectors_ND), k), -1, dtype=np.int32),
        np.zeros((len(vectors_ND), k), dtype=np.float32),
        1.0,
    )
    if not len(known):
        return found
    cells = _Cells(np.ascontiguousarray(scaled_ND[known]))
    reached = cells.widen_until(min(recall + _MARGIN, 1.0), k, seed)
    index, found.scores[known] = cells.search(np.arange(len(known)), k)
    found.items[known] = np.where(index >= 0, known[index], -1)
    return found._replace(recall=reached)


class _Cells:
    """Vectors in cells, of which each query looks into the nearest few."""

    def __init__(self, vectors_MD: NDArray[np.float32]) -> None:
        import faiss

        n_vectors, dim = vectors_MD.shape
        self._vectors_MD = vectors_MD
        self._n_cells = max(1, min(int(_CELLS * n_vectors**0.5), n_vectors // 39))
        self._quantizer = faiss.IndexFlatIP(dim)  # the index does not keep it alive
        self._index: Any = faiss.IndexIVFFlat(
            self._quantizer, dim, self._n_cells, faiss.METRIC_INNER_PRODUCT
        )
        self._index.train(vectors_MD)
        self._index.add(vectors_MD)

    def widen_until(self, recall: float, k: int, seed: int) -> float:
        """Look into ever more cells, all if need be; give the recall that was reached."""
        n_vectors = len(self._vectors_MD)
        sample = np.random.default_rng(seed).choice(
            n_vectors, min(_SAMPLE, n_vectors), replace=False
        )
        exact, _ = nearest(
            self._vectors_MD[sample],
            self._vectors_MD,
            k,
            exclude_BE=sample[:, None],
            similarity="dot",
        )
        probes = 1
        while True:
            self._index.nprobe = probes
            reached = share_found(self.search(sample, k)[0], exact)
            if reached >= recall or probes == self._n_cells:
                return reached
            probes = min(2 * probes, self._n_cells)

    def search(
        self, rows: NDArray[np.integer], k: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The k nearest to these vectors, themselves left out, best first, ties by index."""
        score, index = self._index.search(self._vectors_MD[rows], k + 1)
        # A vector may not be its own nearest: by dot product, longer ones are nearer.
        score[(index == rows[:, None]) | (index < 0)] = -np.inf
        order = np.lexsort((index, -score), axis=1)[:, :k]
        index, score = (np.take_along_axis(x, order, axis=1) for x in (index, score))
        is_found = score > -np.inf
        return (
            np.where(is_found, index, -1).astype(np.int32),
            np.where(is_found, score, 0).astype(np.float32),
        )


def share_found(found: NDArray[np.integer], exact: NDArray[np.integer]) -> float:
    """What share of the exact neighbours is among those found; -1 stands for none."""
    n_exact = np.count_nonzero(exact >= 0)
    hits = sum(
        np.isin(wanted[wanted >= 0], given).sum()
        for given, wanted in zip(found, exact, strict=True)
    )
    return float(hits / n_exact) if n_exact else 1.0
