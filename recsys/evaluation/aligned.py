"""A model of one catalogue, evaluated on another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.ranking import Scorer
from recsys.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class CatalogueAdapter:
    """Lets a model be evaluated on data that knows other items than it does.

    Watches of items that the model does not know are left out of its histories; such items
    score below all others, as do all items where nothing of a history is known to it.
    """

    model: Scorer
    own: Vocabulary
    """The items that the model knows."""
    asked: Vocabulary
    """The items of the data."""

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Scores of all items of the data, [B, n_items]."""
        to_own = self.own.indices(self.asked.ids)
        known = [to_own[history][to_own[history] >= 0] for history in histories]
        rows = np.flatnonzero([len(history) for history in known])
        scores = np.full((len(histories), len(self.asked)), -np.inf, dtype=np.float32)
        if len(rows):
            shared = np.flatnonzero(to_own >= 0)
            own_scores = self.model.score([known[row] for row in rows])
            scores[np.ix_(rows, shared)] = own_scores[:, to_own[shared]]
        return scores
