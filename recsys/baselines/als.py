"""Matrix factorisation by alternating least squares, over the `implicit` library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from pydantic import Field
from threadpoolctl import threadpool_limits

from recsys.baselines.histories import history_matrix
from recsys.baselines.interface import DotProduct
from recsys.config import Config, Runtime
from recsys.data import Interactions


class ALSConfig(Config):
    """The factorisation's size and regularisation."""

    factors: int = Field(default=64, ge=1)
    """Length of the user and item vectors."""

    regularization: float = Field(default=0.01, ge=0)
    """Weight of the squared length of the vectors."""

    alpha: float = Field(default=1.0, gt=0)
    """Weight of a watched item; one not watched weighs 1."""

    iterations: int = Field(default=15, ge=1)
    """Alternations between users and items."""


@dataclass(frozen=True, eq=False)
class ALS(DotProduct):
    """Scores items by the dot product with a user vector solved for the history at hand.

    Hu, Koren & Volinsky 2008, "Collaborative filtering for implicit feedback datasets".
    """

    model: Any
    """implicit's, which solves for user vectors."""

    def user_vectors(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """The vectors that solve the least squares of each history, [B, factors]."""
        watched = sp.csr_matrix(history_matrix(histories, len(self.item_vectors)))
        users = np.arange(len(histories))
        vectors: NDArray[np.float32] = self.model.recalculate_user(users, watched)
        return vectors


def fit_als(
    interactions: Interactions, config: ALSConfig | None = None, *, runtime: Runtime | None = None
) -> ALS:
    """Factorise the user-item matrix of all watches, liked or not."""
    config = config or ALSConfig()
    runtime = runtime or Runtime()
    # implicit runs its own threads; BLAS threads beneath them only get in each other's way.
    with threadpool_limits(limits=1, user_api="blas"):
        model = AlternatingLeastSquares(
            factors=config.factors,
            regularization=config.regularization,
            alpha=config.alpha,
            iterations=config.iterations,
            random_state=runtime.seed,
            num_threads=runtime.threads or 0,
        )
        watched = sp.csr_matrix(interactions.user_item_matrix().astype(np.float32))
        model.fit(watched, show_progress=False)
    return ALS(model.item_factors, model)
