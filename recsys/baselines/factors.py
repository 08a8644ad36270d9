"""Factorisations learned by gradient steps, over the `implicit` library: BPR and LMF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from implicit.cpu.bpr import BayesianPersonalizedRanking
from implicit.cpu.lmf import LogisticMatrixFactorization
from numpy.typing import NDArray
from pydantic import Field
from threadpoolctl import threadpool_limits

from recsys.baselines.histories import history_matrix
from recsys.baselines.interface import DotProduct
from recsys.config import Config, Runtime
from recsys.data import Interactions


class BPRConfig(Config):
    """Size and steps of Bayesian personalised ranking."""

    factors: int = Field(default=64, ge=1)
    """Length of the vectors; biases come on top."""

    learning_rate: float = Field(default=0.05, gt=0)

    regularization: float = Field(default=0.01, ge=0)
    """Weight of the squared length of the vectors."""

    iterations: int = Field(default=100, ge=1)
    """Passes over the watches."""


class LMFConfig(Config):
    """Size and steps of logistic matrix factorisation."""

    factors: int = Field(default=30, ge=1)
    """Length of the vectors; biases come on top."""

    learning_rate: float = Field(default=1.0, gt=0)
    """Of Adagrad."""

    regularization: float = Field(default=0.6, ge=0)
    """Weight of the squared length of the vectors."""

    iterations: int = Field(default=30, ge=1)
    """Alternations between users and items."""

    negatives: int = Field(default=30, ge=1)
    """Items not watched that are drawn for each watched one."""


@dataclass(frozen=True, eq=False)
class Factors(DotProduct):
    """Scores items by the dot product with a user vector foretold from the history at hand.

    The learned user vectors belong to the histories that they were learned from. For any other
    history, one watch longer or of somebody new, the vector is what a linear map makes of the
    watched items' vectors: ridge regression, fitted to the learned user vectors. Vectors include
    the biases.
    """

    to_user: NDArray[np.float32]
    """The linear map, [2 dim + 1, dim]."""

    def user_vectors(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """What the linear map foretells, [B, dim]."""
        watched = history_matrix(histories, len(self.item_vectors))
        return _features(watched, self.item_vectors) @ self.to_user


def fit_bpr(
    interactions: Interactions, config: BPRConfig | None = None, *, runtime: Runtime | None = None
) -> Factors:
    """Rank watched items above others, pair by pair: Rendle et al. 2009, "BPR".

    One thread: implicit's threads step over one another, and no seed would give the same twice.
    """
    config = config or BPRConfig()
    model = BayesianPersonalizedRanking(
        factors=config.factors,
        learning_rate=config.learning_rate,
        regularization=config.regularization,
        iterations=config.iterations,
        random_state=(runtime or Runtime()).seed,
        num_threads=1,
    )
    return _fit(model, interactions)


def fit_lmf(
    interactions: Interactions, config: LMFConfig | None = None, *, runtime: Runtime | None = None
) -> Factors:
    """Tell watched items from others: Johnson 2014, "Logistic matrix factorization"."""
    config = config or LMFConfig()
    model = LogisticMatrixFactorization(
        factors=config.factors,
        learning_rate=config.learning_rate,
        regularization=config.regularization,
        iterations=config.iterations,
        neg_prop=config.negatives,
        random_state=(runtime or Runtime()).seed,
        num_threads=1,
    )
    return _fit(model, interactions)


def _fit(model: Any, interactions: Interactions) -> Factors:
    watched = interactions.user_item_matrix().astype(np.float32)
    with threadpool_limits(limits=1, user_api="blas"):
        model.fit(sp.csr_matrix(watched), show_progress=False)
    items = np.array(model.item_factors, dtype=np.float32)
    known = interactions.history_lengths > 0
    features = _features(watched[known], items)
    return Factors(items, _ridge(features, np.asarray(model.user_factors)[known]))


def _features(watched: Any, items: NDArray[np.float32]) -> NDArray[np.float32]:
    """The watched items' summed vectors over n and over √n, and a one, [B, 2 dim + 1]."""
    n: NDArray[np.float32] = np.maximum(watched.sum(axis=1), 1.0).astype(np.float32)[:, None]
    summed: NDArray[np.float32] = watched @ items
    features: NDArray[np.float32] = np.hstack([summed / n, summed / np.sqrt(n), np.ones_like(n)])
    return features


def _ridge(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """W that makes ‖x W − y‖² small, with features at one scale and a penalty of one."""
    scale = np.maximum(np.sqrt(np.mean(np.square(x, dtype=np.float64), axis=0)), 1e-9)
    scaled = x / scale
    gram = scaled.T @ scaled + np.eye(x.shape[1])
    solution: NDArray[np.float64] = np.linalg.solve(gram, scaled.T @ y) / scale[:, None]
    return solution.astype(np.float32)
