"""Item vectors: similarity queries, and vectors of new items."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys.arguments import require, shown, to_array, to_indices, to_int, to_number
from recsys.embeddings import neighbours
from recsys.embeddings.neighbours import Neighbours, Similarity
from recsys.errors import DataError, QueryError
from recsys.vocabulary import Vocabulary

if TYPE_CHECKING:
    import scipy.sparse as sp

_MAX_K = 100_000  # neighbours per item


@dataclass(frozen=True, eq=False)
class ItemEmbeddings:
    """Item vectors fitted to co-occurrence counts.

    Attributes:
        vectors: One row per item, [n_items, dim]; zero for items that co-occur with no other.
        items: The items.
        loss: Σ_{i≠j} (v_iᵀv_j − X_ij)² at the end of the fit.
        relative_loss: The loss divided by Σ X_ij².
        optimum_loss: The lowest known loss for this dimension, if it was computed.
    """

    vectors: NDArray[np.float32]
    items: Vocabulary
    loss: float
    relative_loss: float
    optimum_loss: float | None = None

    def __repr__(self) -> str:
        size = f"{len(self.items):,} items: {self.dim} dimensions"
        return f"<ItemEmbeddings of {size}, relative loss {self.relative_loss:.4g}>"

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of the vectors and the item ids."""
        sha = hashlib.sha256(json.dumps(self.items.ids.tolist()).encode())
        sha.update(np.ascontiguousarray(self.vectors).data)
        return sha.hexdigest()

    @property
    def loss_ratio(self) -> float | None:
        """The loss divided by that of the optimum, if known; below 1.01, a fit has converged."""
        if self.optimum_loss is None:
            return None
        return self.loss / self.optimum_loss if self.optimum_loss else 1.0

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return int(self.vectors.shape[1])

    def vectors_for(self, items: Vocabulary) -> NDArray[np.float32]:
        """The vectors of other items, matched by id, [n, dim]; zero for unknown ids."""
        require(Vocabulary, QueryError, items=items)
        index = self.items.indices(items.ids)
        vectors_ND = self.vectors[index]
        vectors_ND[index < 0] = 0.0
        return vectors_ND

    def unit_vectors(self) -> NDArray[np.float32]:
        """The vectors scaled to unit length; zero vectors remain zero, [n_items, dim]."""
        return neighbours.scale_rows(self.vectors, "cosine")

    def neighbours(
        self,
        k: int,
        block_size: int = 1024,
        similarity: Similarity = "cosine",
        approximate: bool | None = None,
    ) -> Neighbours:
        """The k nearest neighbours of each item, excluding itself.

        Args:
            k: Number of neighbours.
            block_size: Rows computed at once, to limit memory.
            similarity: "cosine", or "dot", which returns the same popular items for every item.
            approximate: Use faiss, which may miss a few. None: above 200,000 items if installed.

        Returns:
            Item indices and similarities, best first, both [n_items, k]. Missing neighbours, and
            those of items without a vector, have index -1 and similarity 0.
        """
        require(Similarity, QueryError, similarity=similarity)
        require(bool | None, QueryError, approximate=approximate)
        k = to_int("k", k, high=_MAX_K, error=QueryError)
        block_size = to_int("block_size", block_size, error=QueryError)
        vectors = self.vectors
        if approximate is None:
            approximate = len(vectors) > neighbours.ANN_THRESHOLD and neighbours.has_faiss()
        if approximate:
            return neighbours.approximate_knn(vectors, k, similarity=similarity)[0]
        own_N1 = np.arange(len(vectors))[:, None]
        return neighbours.knn(
            vectors, vectors, k, exclude_BE=own_N1, similarity=similarity, block_size=block_size
        )

    def analogy(self, a: int, b: int, c: int, k: int = 10) -> Neighbours:
        """The k items nearest by cosine to a − b + c, excluding these three, both [k].

        "c is to what as b is to a" (Mikolov, Yih & Zweig 2013), on unit vectors.
        """
        last, unit_ND = len(self.items) - 1, self.unit_vectors()
        a, b, c = (
            to_int(n, item, 0, last, QueryError) for n, item in {"a": a, "b": b, "c": c}.items()
        )
        return self._nearest(unit_ND[a] - unit_ND[b] + unit_ND[c], np.array([a, b, c]), k)

    def user_vector(
        self, history: NDArray[np.integer], last: int | None = None
    ) -> NDArray[np.float32]:
        """The mean unit vector of a history's `last` items (default: all), oldest first, [dim]."""
        history = to_indices("history", history, len(self.items), QueryError)
        last = None if last is None else to_int("last", last, error=QueryError)
        recent = history if last is None else history[len(history) - min(last, len(history)) :]
        total_D = neighbours.scale_rows(self.vectors[recent], "cosine").sum(axis=0)
        mean_D: NDArray[np.float32] = total_D / np.float32(max(len(recent), 1))
        return mean_D

    def similar_to_history(
        self, history: NDArray[np.integer], k: int = 10, last: int | None = None
    ) -> Neighbours:
        """The k items nearest by cosine to `user_vector`, excluding the history, both [k]."""
        return self._nearest(self.user_vector(history, last), np.asarray(history, np.int64), k)

    def _nearest(
        self, query_D: NDArray[np.float32], exclude_E: NDArray[np.integer], k: int
    ) -> Neighbours:
        k = to_int("k", k, high=_MAX_K, error=QueryError)
        index, cosine = neighbours.knn(query_D[None], self.vectors, k, exclude_BE=exclude_E[None])
        return index[0], cosine[0]


def fold_in(
    vectors_ND: NDArray[np.float32], rows: sp.csr_array, ridge: float = 1e-6
) -> NDArray[np.float32]:
    """The optimal vectors of new items, with all other vectors fixed, [B, d].

    Minimises Σ_j (vᵀv_j − x_j)² + ridge · ‖v‖² · tr(VᵀV) / d in closed form, as in a step of
    alternating least squares (Hu, Koren & Volinsky 2008, eq. 4). The rows x are X between each new
    item and all known items, weighted as in the fit, [B, N].

    Raises:
        DataError: The number of columns differs from the number of vectors.

    Example:
        >>> import scipy.sparse
        >>> known = np.array([[2, 0], [0, 1]], dtype=np.float32)
        >>> fold_in(known, scipy.sparse.csr_array([[6, 0], [0, 4]]), ridge=0).tolist()
        [[3.0, 0.0], [0.0, 4.0]]
    """
    vectors_ND = to_array("vectors_ND", vectors_ND, "f", None, None)
    ridge = to_number("ridge", ridge, 0)
    if getattr(rows, "ndim", 0) != 2 or not hasattr(rows, "tocsr"):
        raise DataError(f"rows is {shown(rows)}: it must be a sparse matrix")
    if rows.shape[1] != len(vectors_ND):
        raise DataError(
            f"`rows` has {rows.shape[1]} columns, but there are {len(vectors_ND)} vectors: "
            "pass the co-occurrence with every known item"
        )
    exact_ND = vectors_ND.astype(np.float64)
    gram_DD = exact_ND.T @ exact_ND
    gram_DD += ridge * gram_DD.trace() / len(gram_DD) * np.eye(len(gram_DD))
    data_BD = rows.astype(np.float64) @ exact_ND
    # lstsq, because without a ridge the matrix may be singular.
    solved_DB = np.linalg.lstsq(gram_DD, data_BD.T, rcond=None)[0]
    new_BD: NDArray[np.float32] = solved_DB.T.astype(np.float32)
    return new_BD
