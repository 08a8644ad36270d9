"""The rank of the one right item among all items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Scorer(Protocol):
    """Anything that can be evaluated: it gives every item a score for what comes next."""

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Scores of all items, higher is better, [B, n_items], in a new array."""
        ...


def rank_targets(
    scorer: Scorer,
    histories: Sequence[NDArray[np.int32]],
    targets: NDArray[np.int32],
    batch_size: int = 256,
) -> NDArray[np.int64]:
    """Rank each target among the whole catalogue, one is best.

    Items of the history cannot be recommended again and are left out, except the target itself.
    Of equal scores the item with the lower index ranks first, whatever the batch size. A score
    that is not a number ranks below all others.

    Args:
        scorer: the model.
        histories: item indices, oldest first, one array per target.
        targets: the item that came next, [n].
        batch_size: histories scored at once.

    Returns:
        Ranks, [n].
    """
    ranks = np.empty(len(targets), dtype=np.int64)
    for start in range(0, len(targets), batch_size):
        stop = start + batch_size
        scores_BN = scorer.score(histories[start:stop])
        np.nan_to_num(scores_BN, copy=False, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        ranks[start:stop] = _rank(scores_BN, histories[start:stop], targets[start:stop])
    return ranks


def _rank(
    scores_BN: NDArray[np.float32],
    histories: Sequence[NDArray[np.int32]],
    targets_B: NDArray[np.int32],
) -> NDArray[np.int64]:
    rows = np.arange(len(targets_B))
    target_scores_B1 = scores_BN[rows, targets_B][:, None]
    is_earlier_BN = np.arange(scores_BN.shape[1]) < targets_B[:, None]
    ahead_BN = (scores_BN > target_scores_B1) | ((scores_BN == target_scores_B1) & is_earlier_BN)
    for row, history in enumerate(histories):
        ahead_BN[row, history] = False
    ranks: NDArray[np.int64] = 1 + ahead_BN.sum(axis=1)
    return ranks
