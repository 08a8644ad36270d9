"""Vectors of items, and what they say of similarity."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys.embeddings.approximate import WORTH_IT, approximate_neighbours, is_available
from recsys.embeddings.search import Similarity, nearest, scale_rows
from recsys.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class ItemEmbeddings:
    """Item vectors fitted to co-occurrence counts."""

    vectors: NDArray[np.float32]
    """One row per item, [n_items, dim]; zero for items that co-occur with none."""
    items: Vocabulary
    loss: float
    """Σ_{i≠j} (v_iᵀv_j − X_ij)² at the end of the fit."""
    relative_loss: float
    """The loss over Σ X_ij²."""
    optimum_loss: float | None = None
    """The least loss that vectors of this length can have, where it was computed."""

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of the vectors, and of which items they are."""
        sha = hashlib.sha256(json.dumps(self.items.ids.tolist()).encode())
        sha.update(np.ascontiguousarray(self.vectors).data)
        return sha.hexdigest()

    @property
    def loss_ratio(self) -> float | None:
        """1 at the optimum; a fit within 1.01 counts as converged. None where not computed."""
        if self.optimum_loss is None:
            return None
        return self.loss / self.optimum_loss if self.optimum_loss else 1.0

    @property
    def dim(self) -> int:
        """Length of each vector."""
        return int(self.vectors.shape[1])

    def vectors_of(self, items: Vocabulary) -> NDArray[np.float32]:
        """The vectors of other items, found by id, [n, dim]; zero where an id is unknown."""
        place = self.items.indices(items.ids)
        found_ND = self.vectors[place]
        found_ND[place < 0] = 0.0
        return found_ND

    def unit_vectors(self) -> NDArray[np.float32]:
        """The vectors scaled to length one (zero vectors stay zero), [n_items, dim]."""
        return scale_rows(self.vectors, "cosine")

    def neighbours(
        self,
        k: int,
        block: int = 1024,
        similarity: Similarity = "cosine",
        approximate: bool | None = None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The k items nearest to each item, itself left out.

        Cosine rather than the dot product, which lists the same blockbusters for every item.

        Args:
            k: how many.
            block: rows computed at once, to bound memory.
            similarity: cosine or dot product.
            approximate: whether a few may be missed, so that it does not take time in the square
                of the number of items: `recsys.embeddings.approximate`. None: above 200,000
                items, where faiss is installed.

        Returns:
            Item indices and similarities, best first, both [n_items, k]. Index -1 and similarity
            0 fill the row of an item without a vector, or where the catalogue has no more items.
        """
        if approximate is None:
            approximate = len(self.vectors) > WORTH_IT and is_available()
        if approximate:
            return approximate_neighbours(self.vectors, k, similarity=similarity)[:2]
        itself_N1 = np.arange(len(self.vectors))[:, None]
        return nearest(
            self.vectors,
            self.vectors,
            k,
            exclude_BE=itself_N1,
            similarity=similarity,
            block=block,
        )

    def analogy(
        self, a: int, b: int, c: int, k: int = 10
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The k items nearest by cosine to a − b + c, these three left out.

        "c is to what as b is to a" (Mikolov, Yih & Zweig 2013), on vectors of length one.

        Returns:
            Item indices and cosines, best first, both [k].
        """
        unit_ND = self.unit_vectors()
        query_1D = (unit_ND[a] - unit_ND[b] + unit_ND[c])[None]
        return self._near(query_1D, np.array([[a, b, c]]), k)

    def user_vector(
        self, history: NDArray[np.integer], last: int | None = None
    ) -> NDArray[np.float32]:
        """The mean of the unit vectors of what a user watched, [dim].

        Args:
            history: item indices, oldest first; if empty, the vector is zero.
            last: how many of the most recent to take; None takes all.
        """
        recent = history if last is None else history[len(history) - min(last, len(history)) :]
        total_D = scale_rows(self.vectors[recent], "cosine").sum(axis=0)
        mean_D: NDArray[np.float32] = total_D / np.float32(max(len(recent), 1))
        return mean_D

    def similar_to_history(
        self, history: NDArray[np.integer], k: int = 10, last: int | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The k items nearest by cosine to a user's vector, the history left out, both [k]."""
        return self._near(self.user_vector(history, last)[None], np.asarray(history)[None], k)

    def _near(
        self, query_1D: NDArray[np.float32], exclude_1E: NDArray[np.integer], k: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        index, cosine = nearest(query_1D, self.vectors, k, exclude_BE=exclude_1E)
        return index[0], cosine[0]
