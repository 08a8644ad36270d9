"""Mean of the item vectors of a history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.baselines.base import DotProduct, Recency, history_matrix
from recsys.config import Config
from recsys.errors import ConfigError


class MeanEmbeddingConfig(Config):
    """Configuration of the mean embedding."""

    recency: Recency = Recency(last=5, decay=0.8)
    """Which interactions are used."""

    normalise: bool = True
    """Scale item vectors to unit length first: cosine instead of dot product."""


@dataclass(frozen=True, eq=False, repr=False)
class MeanEmbedding(DotProduct):
    """Scores items by the dot product with the weighted sum of the history's item vectors."""

    recency: Recency

    def user_vectors(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """The weighted sum of the item vectors, [B, dim]."""
        weights = history_matrix(histories, len(self.item_vectors), self.recency)
        vectors: NDArray[np.float32] = weights @ self.item_vectors
        return vectors


def fit_mean_embedding(
    item_vectors: NDArray[np.float32] | None, config: MeanEmbeddingConfig | None = None
) -> MeanEmbedding:
    """Create the model from pretrained vectors; nothing is learned.

    Raises:
        ConfigError: `item_vectors` is None.
    """
    config = config or MeanEmbeddingConfig()
    if item_vectors is None:
        raise ConfigError("the mean-embedding model needs item vectors: pass item_vectors")
    vectors = np.array(item_vectors, dtype=np.float32)
    if config.normalise:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.where(lengths > 0, lengths, 1.0)
    return MeanEmbedding(vectors, config.recency)
