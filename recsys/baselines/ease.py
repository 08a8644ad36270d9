"""EASE: a linear model from items to items, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from recsys.baselines.histories import FULL_HISTORY, Recency, history_matrix
from recsys.config import Config
from recsys.data import Interactions
from recsys.errors import ConfigError


class EASEConfig(Config):
    """How strongly the weights are held back, and what may be inverted."""

    regularization: float = Field(default=500.0, gt=0)
    """Weight λ of the squared weights."""

    recency: Recency = FULL_HISTORY
    """Which watches speak when items are scored."""

    largest: int = Field(default=20_000, ge=1)
    """The largest matrix that is inverted: of 20,000 rows it takes 3 GB and ten minutes."""


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
        watched = history_matrix(histories, self.weights.shape[0], self.recency)
        scores: NDArray[np.float32] = watched @ self.weights
        return scores


@dataclass(frozen=True, eq=False)
class WideEASE:
    """EASE where there are fewer users than items: the same scores without B.

    By Woodbury's identity P = (I − Xᵀ K⁻¹ X) / λ, with K = XXᵀ + λI of as many rows as there are
    users; so x P takes two products with the sparse X.
    """

    watched: sp.csr_array
    """X, [n_users, n_items]."""
    inverse: NDArray[np.float64]
    """K⁻¹, [n_users, n_users]."""
    diagonal: NDArray[np.float64]
    """λ times the diagonal of P, [n_items]."""
    recency: Recency

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Each history x times B, [B, n_items]."""
        x = history_matrix(histories, self.watched.shape[1], self.recency).astype(np.float64)
        through_users = (x @ self.watched.T).toarray() @ self.inverse
        x_P = x.toarray() - through_users @ self.watched
        scores: NDArray[np.float32] = (x.toarray() - x_P / self.diagonal).astype(np.float32)
        return scores


def fit_ease(interactions: Interactions, config: EASEConfig | None = None) -> EASE | WideEASE:
    """Solve for B over all watches, liked or not.

    Raises:
        ConfigError: users and items are both more than `config.largest`.
    """
    config = config or EASEConfig()
    watched = sp.csr_array(interactions.user_item_matrix().astype(np.float64))
    n_users, n_items = watched.shape
    if min(n_users, n_items) > config.largest:
        raise ConfigError(
            f"EASE inverts a matrix of as many rows as there are items ({n_items:,}) or users "
            f"({n_users:,}), and both are more than {config.largest:,}: raise `largest`, or leave "
            "it out"
        )
    if n_users < n_items:
        inverse = _inverse(watched @ watched.T, config.regularization)
        # The diagonal of Xᵀ K⁻¹ X.
        through = sp.csr_array(watched.T).multiply(sp.csr_array(watched.T) @ inverse)
        diagonal = 1.0 - np.asarray(through.sum(axis=1), dtype=np.float64)
        return WideEASE(watched, inverse, diagonal, config.recency)
    weights = _inverse(watched.T @ watched, config.regularization)
    weights /= -np.diag(weights)
    np.fill_diagonal(weights, 0.0)
    return EASE(weights.astype(np.float32), config.recency)


def _inverse(gram: Any, regularization: float) -> NDArray[np.float64]:
    """(G + λI)⁻¹, by Cholesky in place: G is symmetric and λ positive."""
    dense = gram.toarray()
    dense[np.diag_indices_from(dense)] += regularization
    factor, lower = scipy.linalg.cho_factor(dense, lower=True, overwrite_a=True)
    inverse, _ = scipy.linalg.lapack.dpotri(factor, lower=lower, overwrite_c=True)
    below = np.tril(inverse)
    whole: NDArray[np.float64] = below + np.tril(below, -1).T
    return whole
