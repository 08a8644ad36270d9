"""The mean of the watched items' vectors, and what lies nearest to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.baselines.histories import Recency, history_matrix
from recsys.baselines.interface import DotProduct
from recsys.config import Config
from recsys.errors import ConfigError


class MeanEmbeddingConfig(Config):
    """What is averaged, and how nearness is measured."""

    recency: Recency = Recency(last=5, decay=0.8)
    """Which watches speak."""

    normalise: bool = True
    """Whether all vectors are brought to length one first (cosine rather than dot product)."""


@dataclass(frozen=True, eq=False)
class MeanEmbedding(DotProduct):
    """Scores items by the dot product with the weighted sum of the watched items' vectors."""

    recency: Recency

    def user_vectors(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """The summed vectors of what was watched, [B, dim]."""
        watched = history_matrix(histories, len(self.item_vectors), self.recency)
        summed: NDArray[np.float32] = watched @ self.item_vectors
        return summed


def fit_mean_embedding(
    item_vectors: NDArray[np.float32] | None, config: MeanEmbeddingConfig | None = None
) -> MeanEmbedding:
    """Take the vectors as they are, or at length one; nothing is learned.

    Raises:
        ConfigError: there are no vectors.
    """
    config = config or MeanEmbeddingConfig()
    if item_vectors is None:
        raise ConfigError("the mean-embedding model needs item vectors: pass item_vectors")
    vectors = np.array(item_vectors, dtype=np.float32)
    if config.normalise:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.where(lengths > 0, lengths, 1.0)
    return MeanEmbedding(vectors, config.recency)
