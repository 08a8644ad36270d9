"""Scores that are dot products, made block by block: all of them are never in memory at once.

Shapes: B histories, D dimensions, N items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.standing import Standing

HISTORIES = 1024
ITEMS = 256
"""A block of so many scores, 1 MB, stays in a core's own cache between making and ranking."""


@runtime_checkable
class DotProductScorer(Protocol):
    """A scorer whose scores are dot products: `score` is `user_vectors @ item_vectors.T`."""

    @property
    def item_vectors(self) -> NDArray[np.float32]:
        """One vector per item, biases included, [N, D]."""
        ...

    def user_vectors(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """One vector per history, [B, D]."""
        ...


@dataclass(frozen=True, eq=False)
class ItemBlocks:
    """Item vectors in blocks of one size, the last filled up with zeros.

    Of one size, since matrix products of another shape may add in another order: the score of a
    target has to be the same to the last bit as that of an item with the same vector, or ties
    would be broken by chance.
    """

    vectors: NDArray[np.float32]
    """[N, D]."""
    last: NDArray[np.float32]
    """The items after the last whole block, and zeros, [ITEMS, D]."""

    @classmethod
    def of(cls, vectors: NDArray[np.float32]) -> ItemBlocks:
        """Divide vectors, [N, D]."""
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        rest = vectors[len(vectors) // ITEMS * ITEMS :]
        return cls(vectors, np.pad(rest, ((0, ITEMS - len(rest)), (0, 0))))

    def rank(self, users_BD: NDArray[np.float32], standing: Standing) -> None:
        """Make the scores of some histories, block by block, until all is known."""
        standing.begin(self._own_scores(users_BD, standing.wanted))
        for first in range(0, len(self.vectors), ITEMS):
            width = min(ITEMS, len(self.vectors) - first)
            block = self.vectors[first : first + ITEMS] if width == ITEMS else self.last
            standing.add(_products(users_BD, block), first, width)
            kept = standing.drop_decided()
            if kept is not None:
                users_BD = users_BD[kept]
                standing.begin(self._own_scores(users_BD, standing.wanted))

    def _own_scores(
        self, users_BD: NDArray[np.float32], targets: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """The score of each history's target, [B]; zero where the target is −1."""
        own = np.empty(len(targets), dtype=np.float32)
        for start in range(0, len(targets), ITEMS):
            wanted = targets[start : start + ITEMS]
            block = np.zeros_like(self.last)
            block[: len(wanted)] = np.where(wanted[:, None] < 0, 0, self.vectors[wanted])
            own[start : start + ITEMS] = np.diagonal(_products(users_BD, block)[start:])
        return own


def _products(users_BD: NDArray[np.float32], block: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(invalid="ignore"):  # what is not a number ranks last
        return users_BD @ block.T
