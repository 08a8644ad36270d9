"""The ends of the spectrum of X, which say how long a step may be, and where to start."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

SPARE = 8
"""Eigenvectors beyond those asked for, which make these converge sooner."""


class SymmetricMatrix(Protocol):
    """Anything that multiplies as a symmetric matrix with zero diagonal does."""

    n_items: int
    sum_of_squares: float
    device: torch.device

    def multiply(self, w_ND: Tensor) -> Tensor:
        """X W in the precision of W, [n_items, d]."""
        ...


class Ends(NamedTuple):
    """The smallest eigenvalue and the largest; where the diagonal is zero, never of one sign."""

    smallest: float
    largest: float


class KrylovSpace:
    """The span of a few columns B, X B, X² B, …, and what X looks like within it.

    Rayleigh and Ritz in a block Krylov space (Golub & Underwood 1977, "The block Lanczos method
    for computing eigenvalues"; Musco & Musco 2015, "Randomized block Krylov methods for stronger
    and faster approximate singular value decomposition", algorithm 2) find both ends of the
    spectrum and leading eigenvectors much more exactly than as many rounds of power iteration,
    which keep the last product only.

    Args:
        matrix: X.
        width: columns of B.
        passes: products with X. The space has `width * passes` dimensions, or all.
        seed: of B, which is noise but for one column.

    The products with X are in float32, all else in float64.
    """

    def __init__(
        self, matrix: SymmetricMatrix, width: int = 4, passes: int = 4, seed: int = 0
    ) -> None:
        if matrix.n_items <= width * passes:
            width, passes = matrix.n_items, 1  # all of the space
        noise_NB = np.random.default_rng(seed).normal(size=(matrix.n_items, width))
        # By Perron and Frobenius the leading eigenvector of a matrix without negative entries has
        # none itself: equal entries are far from orthogonal to it.
        noise_NB[:, 0] = 1.0
        block_NB = orthonormal(torch.from_numpy(noise_NB).to(matrix.device))
        self._basis_NK = block_NB
        product_NK = product_NB = matrix.multiply(block_NB.float()).double()
        for _ in range(passes - 1):
            block_NB = beside(self._basis_NK, product_NB)
            product_NB = matrix.multiply(block_NB.float()).double()
            self._basis_NK = torch.cat([self._basis_NK, block_NB], 1)
            product_NK = torch.cat([product_NK, product_NB], 1)
        inner_KK = self._basis_NK.T @ product_NK
        self._inner_KK = (inner_KK + inner_KK.T) / 2

    @property
    def ends(self) -> Ends:
        """Both ends of the spectrum, approached from within."""
        values_K = torch.linalg.eigvalsh(self._inner_KK)
        return Ends(min(float(values_K[0]), 0.0), float(values_K[-1]))

    def best_vectors(self, dim: int, rounds: int = 5) -> Tensor:
        """About the best V for the pairs off the diagonal, without another look at X, [n, dim].

        The diagonal is imputed in turns with the eigenpairs, as in `recsys.embeddings.spectral`,
        all within the space. Negative eigenvalues count as zero.
        """
        inner_KK = self._inner_KK
        for _ in range(rounds):
            values_K, rotation_KK = torch.linalg.eigh(inner_KK)
            # eigh sorts ascending.
            values_D, rotation_KD = values_K[-dim:].flip(0), rotation_KK[:, -dim:].flip(1)
            vectors_ND: Tensor = self._basis_NK @ (rotation_KD * values_D.clamp_min(0).sqrt())
            imputed_N1 = vectors_ND.square().sum(1, keepdim=True)
            inner_KK = self._inner_KK + self._basis_NK.T @ (imputed_N1 * self._basis_NK)
        return vectors_ND


def beside(basis_NK: Tensor, columns_NB: Tensor) -> Tensor:
    """An orthonormal basis of what columns have beside an orthonormal basis."""
    for _ in range(2):  # once leaves a rest of the size of rounding errors
        columns_NB = orthonormal(columns_NB - basis_NK @ (basis_NK.T @ columns_NB))
    return columns_NB


def orthonormal(columns_NK: Tensor) -> Tensor:
    """An orthonormal basis of the columns, those that are next to nothing left out."""
    basis_NK, values_K, _ = torch.linalg.svd(columns_NK, full_matrices=False)
    kept_NK: Tensor = basis_NK[:, values_K > 1e-8 * values_K.max().clamp_min(1e-300)]
    return kept_NK
