"""Matrix factorisation with the `implicit` library: ALS, BPR and LMF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking
from implicit.cpu.lmf import LogisticMatrixFactorization
from numpy.typing import NDArray
from pydantic import Field
from threadpoolctl import threadpool_limits

from recsys.baselines.base import DotProduct, history_matrix
from recsys.config import Config, Runtime
from recsys.data import Interactions


class ALSConfig(Config):
    """Configuration of alternating least squares."""

    factors: int = Field(default=64, ge=1)
    """Dimension of the user and item vectors."""

    regularization: float = Field(default=0.01, ge=0)
    """L2 regularisation of the vectors."""

    alpha: float = Field(default=1.0, gt=0)
    """Weight of a positive; a zero has weight 1."""

    iterations: int = Field(default=15, ge=1)
    """Alternations between users and items."""


class BPRConfig(Config):
    """Configuration of Bayesian personalised ranking."""

    factors: int = Field(default=64, ge=1)
    """Dimension of the vectors, without biases."""

    learning_rate: float = Field(default=0.05, gt=0)

    regularization: float = Field(default=0.01, ge=0)
    """L2 regularisation of the vectors."""

    iterations: int = Field(default=100, ge=1)
    """Passes over the interactions."""


class LMFConfig(Config):
    """Configuration of logistic matrix factorisation."""

    factors: int = Field(default=30, ge=1)
    """Dimension of the vectors, without biases."""

    learning_rate: float = Field(default=1.0, gt=0)
    """Learning rate of Adagrad."""

    regularization: float = Field(default=0.6, ge=0)
    """L2 regularisation of the vectors."""

    iterations: int = Field(default=30, ge=1)
    """Alternations between users and items."""

    negatives: int = Field(default=30, ge=1)
    """Negatives sampled per positive."""


@dataclass(frozen=True, eq=False, repr=False)
class ALS(DotProduct):
    """Scores items with a user vector solved for each history.

    Hu, Koren & Volinsky 2008, "Collaborative filtering for implicit feedback datasets".
    """

    model: Any
    """The model of `implicit`, which solves for user vectors."""

    def user_vectors(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """The least-squares solution for each history, [B, factors]."""
        matrix = sp.csr_matrix(history_matrix(histories, len(self.item_vectors)))
        users = np.arange(len(histories))
        vectors: NDArray[np.float32] = self.model.recalculate_user(users, matrix)
        return vectors


@dataclass(frozen=True, eq=False, repr=False)
class ProjectedFactors(DotProduct):
    """Scores items with a user vector predicted from each history.

    A ridge regression, fitted to the learned user vectors, predicts the user vector of any history
    from the vectors of its items. Vectors include the biases.
    """

    user_projection: NDArray[np.float32]
    """The linear map, [2 dim + 1, dim]."""

    def user_vectors(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """The predicted user vectors, [B, dim]."""
        matrix = history_matrix(histories, len(self.item_vectors))
        return _history_features(matrix, self.item_vectors) @ self.user_projection


def fit_als(
    interactions: Interactions, config: ALSConfig | None = None, *, runtime: Runtime | None = None
) -> ALS:
    """Factorise the binary user-item matrix of all interactions."""
    config, runtime = config or ALSConfig(), runtime or Runtime()
    model = AlternatingLeastSquares(
        **config.model_dump(), random_state=runtime.seed, num_threads=runtime.threads or 0
    )
    _fit_implicit(model, interactions)
    return ALS(model.item_factors, model)


def fit_bpr(
    interactions: Interactions, config: BPRConfig | None = None, *, runtime: Runtime | None = None
) -> ProjectedFactors:
    """Rank positives above negatives, pair by pair: Rendle et al. 2009, "BPR".

    Uses one thread, because several threads make the result depend on their timing.
    """
    config, runtime = config or BPRConfig(), runtime or Runtime()
    model = BayesianPersonalizedRanking(
        **config.model_dump(), random_state=runtime.seed, num_threads=1
    )
    return _project_users(model, interactions)


def fit_lmf(
    interactions: Interactions, config: LMFConfig | None = None, *, runtime: Runtime | None = None
) -> ProjectedFactors:
    """Classify positives and negatives: Johnson 2014, "Logistic matrix factorization"."""
    config, runtime = config or LMFConfig(), runtime or Runtime()
    options = config.model_dump(exclude={"negatives"}) | {"neg_prop": config.negatives}
    model = LogisticMatrixFactorization(**options, random_state=runtime.seed, num_threads=1)
    return _project_users(model, interactions)


def _fit_implicit(model: Any, interactions: Interactions) -> sp.csr_array:
    """Fit to the binary user-item matrix, and return it."""
    matrix = interactions.user_item_matrix().astype(np.float32)
    # implicit has its own threads, with which BLAS threads would compete.
    with threadpool_limits(limits=1, user_api="blas"):
        model.fit(sp.csr_matrix(matrix), show_progress=False)
    return matrix


def _project_users(model: Any, interactions: Interactions) -> ProjectedFactors:
    matrix = _fit_implicit(model, interactions)
    items = np.array(model.item_factors, dtype=np.float32)
    nonempty = interactions.history_lengths > 0
    features = _history_features(matrix[nonempty], items)
    return ProjectedFactors(items, _ridge(features, np.asarray(model.user_factors)[nonempty]))


def _history_features(matrix: Any, items: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sum of the item vectors over n and over √n, and a constant, [B, 2 dim + 1]."""
    n: NDArray[np.float32] = np.maximum(matrix.sum(axis=1), 1.0).astype(np.float32)[:, None]
    total: NDArray[np.float32] = matrix @ items
    features: NDArray[np.float32] = np.hstack([total / n, total / np.sqrt(n), np.ones_like(n)])
    return features


def _ridge(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """W that minimises ‖x W − y‖² + ‖W‖², with features scaled to unit mean square."""
    scale = np.maximum(np.sqrt(np.mean(np.square(x, dtype=np.float64), axis=0)), 1e-9)
    scaled = x / scale
    gram = scaled.T @ scaled + np.eye(x.shape[1])
    solution: NDArray[np.float64] = np.linalg.solve(gram, scaled.T @ y) / scale[:, None]
    return solution.astype(np.float32)
