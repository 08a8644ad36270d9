"""Scores of all items for what comes next: the session model's, blended and corrected as asked.

Shapes: N items, D of the session model's vectors, E of the embeddings, P candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys.bundle import Bundle
from recsys.recommender.ranking import Floats, Indices, best, diversify
from recsys.sessions.light import LightModel

DEFAULT_BLEND = 0.0
"""Weight of the embeddings beside the session model; docs/recommending.md has the figures."""

RECENT = 10
"""How many of the latest watches the embeddings' side of a blend looks at."""

_SHARPNESS = np.float32(10.0)
"""What cosines are multiplied by to be log-probabilities."""

_CANDIDATES = 10
"""How many times as many items as are asked for a diverse list is chosen from."""


@dataclass(frozen=True, eq=False)
class Wishes:
    """What is asked for beside the history."""

    k: int
    allowed: NDArray[np.bool_] | None = None
    """Which items may be recommended; None for all."""
    diversity: float = 0.0
    popularity_bias: float = 1.0
    blend: float = DEFAULT_BLEND


@dataclass(frozen=True, eq=False)
class Ranked:
    """The items chosen, in order."""

    index: Indices
    score: Floats
    probability: Floats


class Scoring:
    """Scores from the parts of a bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self.model = LightModel(bundle.weights)
        self._vectors_NE = bundle.embeddings.vectors

    @cached_property
    def unit_vectors(self) -> Floats:
        """The embeddings at length one; zero where an item has none."""
        length_N1 = np.linalg.norm(self._vectors_NE, axis=1, keepdims=True)
        length_N1[length_N1 == 0] = 1.0
        unit_NE: Floats = self._vectors_NE / length_N1
        return unit_NE

    @cached_property
    def has_vector(self) -> NDArray[np.bool_]:
        """Which items have an embedding."""
        return np.asarray(self._vectors_NE.any(axis=1))

    def rank(self, logits_N: Floats, watched: NDArray[np.integer], wishes: Wishes) -> Ranked:
        """Choose what to recommend.

        Args:
            logits_N: of the session model; used up.
            watched: what is not to be recommended again, oldest first.
            wishes: what is asked for.
        """
        if self.model.config.exclude_seen:
            logits_N[watched] = -np.inf
        log_total = _log_sum_exp(logits_N)
        logits_N[watched] = -np.inf
        scores_N = self._score(logits_N - log_total, watched, wishes)
        allowed_N = scores_N
        if wishes.allowed is not None:
            allowed_N = np.where(wishes.allowed, scores_N, -np.inf)
        index = self.choose(allowed_N, wishes)
        probability = np.exp(logits_N[index] - log_total)
        return Ranked(index, np.exp(scores_N[index]), probability)

    def _score(self, log_p_N: Floats, watched: NDArray[np.integer], wishes: Wishes) -> Floats:
        """Logarithms of the scores, which sum to one over all that is not watched, [N]."""
        if wishes.blend == 0.0 and wishes.popularity_bias == 1.0:
            return log_p_N
        scores_N = np.float32(1.0 - wishes.blend) * log_p_N
        if wishes.blend:
            scores_N += np.float32(wishes.blend) * _SHARPNESS * self.likeness(watched)
        if wishes.popularity_bias != 1.0:
            off = np.float32(1.0 - wishes.popularity_bias)
            scores_N -= off * self.model.log_popularity_N
        scores_N[watched] = -np.inf
        scores_N -= _log_sum_exp(scores_N)
        return scores_N

    def likeness(self, watched: NDArray[np.integer]) -> Floats:
        """Cosine of each item to the mean of the latest watches' unit vectors, [N]."""
        mean_E = self.unit_vectors[watched[-RECENT:]].sum(axis=0)
        length = np.linalg.norm(mean_E)
        cosine_N: Floats = self.unit_vectors @ (mean_E / (length if length > 0 else 1.0))
        return cosine_N

    def choose(self, scores_N: Floats, wishes: Wishes) -> Indices:
        """The items to recommend, in order: the best, or good ones unlike each other."""
        if not wishes.diversity:
            return best(scores_N, wishes.k)
        candidates = best(scores_N, max(_CANDIDATES * wishes.k, 100))
        relevance_P = _zero_to_one(scores_N[candidates])
        unit_PE = self.unit_vectors[candidates]
        return candidates[diversify(candidates, relevance_P, unit_PE, wishes.k, wishes.diversity)]


def _log_sum_exp(x_N: Floats) -> np.float32:
    highest = x_N.max()
    if highest == -np.inf:  # everything has been watched
        return np.float32(0.0)
    total: np.float32 = highest + np.log(np.exp(x_N - highest).sum())
    return total


def _zero_to_one(x_P: Floats) -> Floats:
    spread = np.ptp(x_P) if len(x_P) else 0.0
    scaled: Floats = (x_P - x_P.min()) / spread if spread > 0 else np.ones_like(x_P)
    return scaled
