"""EASE: a linear item-to-item model with a closed-form solution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from recsys.baselines.base import FULL_HISTORY, Recency, history_matrix
from recsys.config import Config
from recsys.data import Interactions
from recsys.errors import ConfigError

_BLOCK: Final = 256
"""Rows or columns at a time, so that nothing of the size of the matrix is copied."""


class EASEConfig(Config):
    """Configuration of EASE."""

    regularization: float = Field(default=500.0, gt=0)
    """L2 regularisation λ of the weights."""

    recency: Recency = FULL_HISTORY
    """Which interactions are used for scoring."""

    max_size: int = Field(default=20_000, ge=1)
    """Maximum size of the matrix to invert. A row per item takes 4 bytes for each of its entries,
    20,000 rows 1.6 GB; a row per user, where users are fewer, twice as much."""


@dataclass(frozen=True, eq=False, repr=False)
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


@dataclass(frozen=True, eq=False, repr=False)
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
        # Scores are differences of products with the inverse, and need its digits.
        inverse = _inverse(X, config.regularization, np.float64)
        columns, diagonal = sp.csr_array(X.T), np.ones(n_items)
        for start in range(0, n_items, _BLOCK):  # minus the diagonal of Xᵀ K⁻¹ X
            block = columns[start : start + _BLOCK]
            diagonal[start : start + _BLOCK] -= block.multiply(block @ inverse).sum(axis=1)
        return WideEASE(X, inverse, diagonal, config.recency)
    weights: NDArray[np.float32] = _inverse(sp.csr_array(X.T), config.regularization, np.float32)
    divisor = -np.diag(weights)
    for start in range(0, n_items, _BLOCK):
        weights[start : start + _BLOCK] /= divisor
    np.fill_diagonal(weights, 0.0)
    return EASE(weights, config.recency)


def _inverse(
    rows: sp.csr_array, regularization: float, dtype: type[np.floating[Any]]
) -> NDArray[Any]:
    """(A Aᵀ + λI)⁻¹ by a Cholesky factorisation, all of it in the memory of the result, [n, n]."""
    n = rows.shape[0]
    # LAPACK works in place on columns.
    matrix: NDArray[Any] = np.empty((n, n), dtype, order="F")
    columns = sp.csc_array(rows.T)
    for start in range(0, n, _BLOCK):
        block = slice(start, start + _BLOCK)
        matrix[:, block] = (rows @ columns[:, block]).toarray()
    matrix[np.diag_indices(n)] += regularization
    functions: Any = scipy.linalg.get_lapack_funcs(("potrf", "potri"), (matrix,))
    factorise, invert = functions
    _, fault = factorise(matrix, lower=True, overwrite_a=True, clean=False)
    if fault:
        raise ConfigError(
            f"EASE cannot invert its matrix with regularization = {regularization:g}: raise it"
        )
    invert(matrix, lower=True, overwrite_c=True)
    for start in range(0, n, _BLOCK):
        block, after = slice(start, start + _BLOCK), slice(start + _BLOCK, n)
        below = np.tril(matrix[block, block])
        matrix[block, block] = below + np.tril(below, -1).T
        matrix[block, after] = matrix[after, block].T
    return matrix.T  # symmetric: now in the order of rows
