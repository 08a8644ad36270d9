"""The ends of the spectrum of X, which say how long a step may be."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor


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


def extreme_eigenvalues(matrix: SymmetricMatrix, width: int = 4, passes: int = 4) -> Ends:
    """Both ends of the spectrum, to a percent where they stand out from the rest.

    Rayleigh and Ritz in the block Krylov space of a few columns (Golub & Underwood 1977, "The
    block Lanczos method for computing eigenvalues"): it reads X four times, which a power
    iteration takes for one end alone. Both are approached from within.
    """
    if matrix.n_items <= width * passes:
        width, passes = matrix.n_items, 1  # all of the space
    noise_NB = torch.from_numpy(np.random.default_rng(0).normal(size=(matrix.n_items, width)))
    # By Perron and Frobenius the leading eigenvector of a matrix without negative entries has
    # none itself: equal entries are far from orthogonal to it.
    noise_NB[:, 0] = 1.0
    block_NB = orthonormal(noise_NB.to(matrix.device))
    basis_NK, product_NK = block_NB[:, :0], block_NB[:, :0]
    for _ in range(passes):
        product_NB = matrix.multiply(block_NB.float()).double()
        basis_NK = torch.cat([basis_NK, block_NB], 1)
        product_NK = torch.cat([product_NK, product_NB], 1)
        block_NB = beside(basis_NK, product_NB)
    inner_KK = basis_NK.T @ product_NK
    values_K = torch.linalg.eigvalsh((inner_KK + inner_KK.T) / 2)
    return Ends(min(float(values_K[0]), 0.0), float(values_K[-1]))


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
