"""Scores of all items for what comes next: the session model's, blended and corrected as asked.

Shapes: B histories, N items, E dimensions of the embeddings, K of an answer, P candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys.cooccurrence import top_k
from recsys.recommender.bundle import Bundle
from recsys.recommender.ranking import Floats, Indices, diversify
from recsys.recommender.wishes import Wishes
from recsys.sessions.numpy_model import NumpySessionModel

Histories = Sequence[NDArray[np.integer]]
"""Items by their indices, oldest first."""

Cells = tuple[NDArray[np.int64], NDArray[np.integer]]
"""Rows and columns of some entries of a matrix."""

ONE_FILM_BLEND = 0.2
"""Weight of the embeddings beside the session model after a single watch, where nothing else is
asked for; after more watches it is zero. docs/recommending.md has the figures."""

RECENT = 10
"""How many of the latest watches the embeddings' side of a blend looks at."""

SHARPNESS = np.float32(10.0)
"""What cosines are multiplied by to be log-probabilities."""

_CANDIDATES = 10
"""How many times as many items as are asked for a diverse list is chosen from."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """The items chosen, in order, for one history after the other."""

    row: Indices
    """Which history."""
    index: Indices
    score: Floats
    probability: Floats


class Scoring:
    """Scores from the parts of a bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self.model = NumpySessionModel(bundle.weights)
        self._vectors_NE = bundle.embeddings.vectors

    @cached_property
    def unit_vectors(self) -> Floats:
        """The embeddings at length one; zero where an item has none, [N, E]."""
        length_N1 = np.linalg.norm(self._vectors_NE, axis=1, keepdims=True)
        length_N1[length_N1 == 0] = 1.0
        unit_NE: Floats = self._vectors_NE / length_N1
        return unit_NE

    @cached_property
    def has_vector(self) -> NDArray[np.bool_]:
        """Which items have an embedding, [N]."""
        return np.asarray(self._vectors_NE.any(axis=1))

    def rank(self, logits_BN: Floats, watched: Histories, wishes: Wishes) -> Ranked:
        """Choose what to recommend.

        Args:
            logits_BN: of the session model, one row for each history; used up.
            watched: what is not to be recommended again, oldest first.
            wishes: what is asked for.
        """
        seen = _cells(watched)
        log_total_B1 = self._log_total(logits_BN, seen)
        scores_BN, score_total_B1 = self._scores(logits_BN, log_total_B1, watched, seen, wishes)
        allowed_BN = scores_BN
        if wishes.allowed is not None:
            allowed_BN = np.where(wishes.allowed, scores_BN, -np.inf)
        row, index = self._choose(allowed_BN, wishes)
        return Ranked(
            row,
            index,
            np.exp(scores_BN[row, index] - score_total_B1[row, 0]),
            np.exp(logits_BN[row, index] - log_total_B1[row, 0]),
        )

    def log_scores(self, logits_BN: Floats, watched: Histories, wishes: Wishes) -> Floats:
        """Logarithms of the scores of all items, minus infinity for what was watched, [B, N]."""
        seen = _cells(watched)
        total_B1 = self._log_total(logits_BN, seen)
        scores_BN, score_total_B1 = self._scores(logits_BN, total_B1, watched, seen, wishes)
        return scores_BN - score_total_B1

    def _log_total(self, logits_BN: Floats, seen: Cells) -> Floats:
        """What the logits are above log-probabilities, [B, 1]; watched items are ruled out."""
        if self.model.config.exclude_seen:
            logits_BN[seen] = -np.inf
        total_B1 = log_sum_exp(logits_BN)
        logits_BN[seen] = -np.inf
        return total_B1

    def _scores(
        self, logits_BN: Floats, log_total_B1: Floats, watched: Histories, seen: Cells,
        wishes: Wishes,
    ) -> tuple[Floats, Floats]:  # fmt: skip
        """Logarithms of the scores, [B, N], and what they are above those that sum to one."""
        blend_B = _blends(watched, wishes)
        if wishes.popularity_weight == 1.0 and not blend_B.any():
            return logits_BN, log_total_B1
        scores_BN = logits_BN - log_total_B1
        scores_BN[seen] = 0.0  # minus infinity times zero is not a number
        scores_BN *= 1.0 - blend_B[:, None]
        (mixed,) = blend_B.nonzero()
        if len(mixed):
            likeness = self._likeness([watched[row] for row in mixed.tolist()])
            scores_BN[mixed] += SHARPNESS * blend_B[mixed, None] * likeness
        scores_BN -= np.float32(1.0 - wishes.popularity_weight) * self.model.log_popularity_N
        scores_BN[seen] = -np.inf
        return scores_BN, log_sum_exp(scores_BN)

    def _likeness(self, watched: Histories) -> Floats:
        """Cosine of each item to the mean of the latest watches' unit vectors, [B, N]."""
        unit_NE = self.unit_vectors
        mean_BE = np.stack([unit_NE[history[-RECENT:]].sum(axis=0) for history in watched])
        length_B1 = np.linalg.norm(mean_BE, axis=1, keepdims=True)
        length_B1[length_B1 == 0] = 1.0
        cosine_BN: Floats = (mean_BE / length_B1) @ unit_NE.T
        return cosine_BN

    def _choose(self, scores_BN: Floats, wishes: Wishes) -> tuple[Indices, Indices]:
        if not wishes.diversity:
            return top_k(scores_BN, wishes.k)
        chosen = [self.unlike(scores_N, wishes) for scores_N in scores_BN]
        rows = np.repeat(np.arange(len(chosen)), [len(items) for items in chosen])
        return rows, np.concatenate(chosen)

    def unlike(self, scores_N: Floats, wishes: Wishes) -> Indices:
        """Items that are good and unlike each other, in the order chosen, [K]."""
        _, candidates = top_k(scores_N[None], max(_CANDIDATES * wishes.k, 100))
        relevance_P = _zero_to_one(scores_N[candidates])
        unit_PE = self.unit_vectors[candidates]
        return candidates[diversify(relevance_P, unit_PE, wishes.k, wishes.diversity)]


def _blends(watched: Histories, wishes: Wishes) -> Floats:
    """The weight of the embeddings for each history, [B]."""
    if wishes.embedding_weight is not None:
        return np.full(len(watched), wishes.embedding_weight, dtype=np.float32)
    is_one = [len(history) == 1 for history in watched]
    return np.float32(ONE_FILM_BLEND) * np.array(is_one, dtype=np.float32)


def _cells(watched: Histories) -> Cells:
    """Row and item of all that was watched."""
    rows = np.repeat(np.arange(len(watched)), [len(history) for history in watched])
    return rows, np.concatenate(watched)


def log_sum_exp(x_BN: Floats) -> Floats:
    """The logarithm of each row's sum of exponentials, [B, 1]; zero where it is of nothing."""
    highest_B1 = x_BN.max(axis=1, keepdims=True)
    highest_B1[highest_B1 == -np.inf] = 0.0  # everything has been watched
    shifted_BN = x_BN - highest_B1
    sum_B1 = np.exp(shifted_BN, out=shifted_BN).sum(axis=1, keepdims=True)
    total_B1: Floats = highest_B1 + np.log(np.where(sum_B1 > 0, sum_B1, 1.0))
    return total_B1


def _zero_to_one(x_P: Floats) -> Floats:
    spread = np.ptp(x_P) if len(x_P) else 0.0
    scaled: Floats = (x_P - x_P.min()) / spread if spread > 0 else np.ones_like(x_P)
    return scaled
