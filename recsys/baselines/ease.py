"""EASE: a linear item-to-item model with a closed-form solution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from recsys.baselines.base import FULL_HISTORY, Recency, history_matrix
from recsys.config import Config
from recsys.data import Interactions
from recsys.errors import ConfigError


class EASEConfig(Config):
    """Configuration of EASE."""

    regularization: float = Field(default=500.0, gt=0)
    """L2 regularisation λ of the weights."""

    recency: Recency = FULL_HISTORY
    """Which interactions are used for scoring."""

    max_size: int = Field(default=20_000, ge=1)
    """Maximum size of the matrix to invert: 20,000 rows take 3 GB and ten minutes."""


@dataclass(frozen=True, eq=False)
class EASE:
    """Scores items by x B, where B predicts each item from all others.

    Steck 2019, "Embarrassingly shallow autoencoders for sparse data": with P = (XᵀX + λI)⁻¹,
    B_ij = −P_ij / P_jj off the diagonal and zero on it (equation 8), that is B = I − P diag(P)⁻¹.
    """

    weights: NDArray[np.float32]
    """B, [n_items, n_items]."""
    recency: Recency

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Each history x times B, [B, n_items]."""
        x = history_matrix(histories, self.weights.shape[0], self.recency)
        scores: NDArray[np.float32] = x @ self.weights
        return scores


@dataclass(frozen=True, eq=False)
class WideEASE:
    """EASE for fewer users than items: the same scores without B.

    By the Woodbury identity, P = (I − Xᵀ K⁻¹ X) / λ with K = XXᵀ + λI, which has one row per user;
    so x P takes two products with the sparse X.
    """

    user_item_matrix: sp.csr_array
    """X, [n_users, n_items]."""
    inverse: NDArray[np.float64]
    """K⁻¹, [n_users, n_users]."""
    diagonal: NDArray[np.float64]
    """λ times the diagonal of P, [n_items]."""
    recency: Recency

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Each history x times B, [B, n_items]."""
        X = self.user_item_matrix
        x = history_matrix(histories, X.shape[1], self.recency).astype(np.float64)
        x_P = x.toarray() - (x @ X.T).toarray() @ self.inverse @ X
        scores: NDArray[np.float32] = (x.toarray() - x_P / self.diagonal).astype(np.float32)
        return scores


def fit_ease(interactions: Interactions, config: EASEConfig | None = None) -> EASE | WideEASE:
    """Solve for B over all interactions, whatever their rating.

    Raises:
        ConfigError: Both the number of users and that of items exceed `config.max_size`.
    """
    config = config or EASEConfig()
    X = sp.csr_array(interactions.user_item_matrix().astype(np.float64))
    n_users, n_items = X.shape
    if min(n_users, n_items) > config.max_size:
        raise ConfigError(
            f"EASE inverts a matrix with one row per item ({n_items:,}) or user ({n_users:,}), "
            f"and both exceed {config.max_size:,}: raise `max_size`, or use another baseline"
        )
    if n_users < n_items:
        inverse = _inverse(X @ X.T, config.regularization)
        # The diagonal of Xᵀ K⁻¹ X.
        products = sp.csr_array(X.T).multiply(sp.csr_array(X.T) @ inverse)
        diagonal = 1.0 - np.asarray(products.sum(axis=1), dtype=np.float64)
        return WideEASE(X, inverse, diagonal, config.recency)
    weights = _inverse(X.T @ X, config.regularization)
    weights /= -np.diag(weights)
    np.fill_diagonal(weights, 0.0)
    return EASE(weights.astype(np.float32), config.recency)


def _inverse(gram: Any, regularization: float) -> NDArray[np.float64]:
    """(G + λI)⁻¹ by an in-place Cholesky factorisation: G is symmetric and λ positive."""
    dense = gram.toarray()
    dense[np.diag_indices_from(dense)] += regularization
    factor, lower = scipy.linalg.cho_factor(dense, lower=True, overwrite_a=True)
    inverse, _ = scipy.linalg.lapack.dpotri(factor, lower=lower, overwrite_c=True)
    below = np.tril(inverse)
    full: NDArray[np.float64] = below + np.tril(below, -1).T
    return full
