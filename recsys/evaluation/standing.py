"""Where the targets of some histories stand, while scores come in block by block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.kernels import count_ahead, keep_best, sort_seen


class Standing:
    """How many items are ahead of each target so far, and which items lead.

    Of equal scores the item with the lower index is ahead, whatever the blocks are. A score that
    is not a number counts as minus infinity.

    Args:
        seen: items that do not take part, one array per target, the target itself excepted.
        targets: [B]; −1 where only the list is wanted.
        k: how many items to list.
        within: ranks beyond it need not be known; None counts them all.
    """

    def __init__(
        self,
        seen: Sequence[NDArray[np.int32]],
        targets: NDArray[np.int32],
        k: int = 0,
        within: int | None = None,
    ) -> None:
        offsets = np.cumsum([0, *map(len, seen)])
        self._seen = np.concatenate([*seen, np.empty(0, np.int32)])
        self._starts, self._stops = offsets[:-1].copy(), offsets[1:].copy()
        sort_seen(self._seen, self._starts, self._stops, targets)
        self._next_seen = self._starts.copy()
        self._targets = targets
        self._has_targets = bool((targets >= 0).any())
        self._within = within
        self._ahead = np.zeros(len(targets), dtype=np.int64)
        self._rows = np.arange(len(targets))
        self.top = np.full((len(targets), k), -1, dtype=np.int32)
        """The items that lead, best first, [B, k]; −1 where there are fewer."""

    @property
    def wanted(self) -> NDArray[np.int32]:
        """The targets of the rows whose scores are still wanted."""
        return self._targets[self._rows]

    @property
    def ranks(self) -> NDArray[np.int64]:
        """The rank of each target, one is best, [B]; `within` + 1 stands for all beyond it."""
        ranks = 1 + self._ahead
        return ranks if self._within is None else np.minimum(ranks, self._within + 1)

    def begin(self, own: NDArray[Any]) -> None:
        """Take in the scores of the wanted targets; anything where there is no target."""
        self._own = np.where(np.isnan(own), -np.inf, own).astype(own.dtype)
        if len(self._rows) == len(self.top):
            self._best = np.full(self.top.shape, -np.inf, dtype=own.dtype)

    def add(self, scores: NDArray[Any], first: int, width: int) -> None:
        """Take in the scores of the next items.

        Args:
            scores: of the wanted rows, [rows, at least width].
            first: the item that the first column is of; blocks come in the order of items.
            width: how many columns are of items.
        """
        block = (scores, first, width)
        if self._has_targets:
            count_ahead(
                *block,
                self._own,
                self._rows,
                self._targets,
                self._seen,
                self._next_seen,
                self._stops,
                self._ahead,
            )
        if self.top.shape[1]:
            keep_best(*block, self._seen, self._starts, self._stops, self._best, self.top)

    def drop_decided(self) -> NDArray[np.bool_] | None:
        """Want no more scores of rows whose rank is beyond `within`, where these are many.

        Returns:
            Which of the rows that were wanted still are; None where nothing has changed.
        """
        if self._within is None or self.top.shape[1]:
            return None
        undecided = self._ahead[self._rows] < self._within
        if 2 * np.count_nonzero(undecided) > len(undecided):
            return None
        self._rows = self._rows[undecided]
        return undecided
