r"""The best that vectors of a given length can do, from eigenvectors.

The diagonal of X takes no part in the objective, so it can be imputed: at any V, setting
X_ii = ‖v_i‖² makes the sum over i ≠ j a sum over all i and j, and of that the best V of rank d
is known (Eckart & Young 1936; the positive part of the d leading eigenpairs). Taking turns never
raises the loss. Factor analysis calls it the principal-axis method, and its fixed points are
those of the objective (Harman & Jones 1966, "Factor analysis by minimizing residuals").

Eigenvectors of a matrix whose diagonal is about to change need not be exact: one block of
LOBPCG (Knyazev 2001) per imputation, started from the last, does as well as a full `eigsh`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from recsys.callbacks import EpochCallback, no_op
from recsys.embeddings.eigenvalues import SPARE, SymmetricMatrix, beside

_STILL = 2
"""Rounds that the loss has to stand still before it counts as converged."""


_FEW = 30
"""Items up to which random starts are tried as well."""

_RESTARTS = 8


@dataclass(frozen=True, eq=False)
class SpectralOptimum:
    """The best rank-d approximation of X off its diagonal."""

    vectors: Tensor
    """V, float64, [n_items, dim]."""
    loss: float
    """Σ_{i≠j} (v_iᵀv_j − X_ij)² at V."""
    rounds: int
    """How often the diagonal was imputed."""
    converged: bool
    """Whether the loss stood still within the tolerance at the end."""


def find_optimum(
    matrix: SymmetricMatrix,
    dim: int,
    *,
    seed: int = 0,
    tolerance: float = 1e-6,
    max_rounds: int = 200,
    on_epoch: EpochCallback = no_op,
) -> SpectralOptimum:
    """Minimise Σ_{i≠j} (v_iᵀv_j − X_ij)² by eigenvectors with an imputed diagonal, in float64.

    Args:
        matrix: X.
        dim: length of each vector, less than the number of items.
        seed: of the random start; the result depends on it within the tolerance only.
        tolerance: stop when a round lowers the loss by less than this share of itself, twice.
        max_rounds: stop after this many rounds in any case.
        on_epoch: called after each round with `loss` and `relative_loss`.
    """
    width = dim + SPARE
    # A small matrix is all within reach of three blocks: then eigenvectors are exact.
    exact = matrix.n_items <= 3 * width
    block = _Block.whole(matrix) if exact else _Block.random(matrix, width, seed)
    best = SpectralOptimum(torch.empty(0), float("inf"), 0, False)
    still = 0
    for round_ in range(1, max_rounds + 1):
        vectors_ND = block.leading(dim)
        loss = _loss(vectors_ND, block.product_NK[:, :dim], block.values_K[:dim], matrix)
        on_epoch(round_, {"loss": loss, "relative_loss": loss / matrix.sum_of_squares})
        still = still + 1 if best.loss - loss <= tolerance * loss else 0
        if loss < best.loss:
            best = SpectralOptimum(vectors_ND, loss, round_, False)
        # Of a loss this small only rounding is left.
        if still == _STILL or loss <= 1e-14 * matrix.sum_of_squares:
            best = SpectralOptimum(best.vectors, best.loss, round_, True)
            break
        block.refine(vectors_ND.square().sum(1))
    return _restart(matrix, best, seed) if matrix.n_items <= _FEW else best


def _restart(matrix: SymmetricMatrix, best: SpectralOptimum, seed: int) -> SpectralOptimum:
    """Descend from the vectors found and from noise too; keep what ends lowest.

    With few items for the length of the vectors there are local optima, and some lie at
    infinity, where taking turns creeps. L-BFGS of such a size takes milliseconds.
    """
    shape = best.vectors.shape
    generator = torch.Generator().manual_seed(seed)
    size = (matrix.sum_of_squares / matrix.n_items**2) ** 0.25
    starts = [best.vectors.cpu()] + [
        size * torch.randn(shape, generator=generator, dtype=torch.float64)
        for _ in range(_RESTARTS)
    ]

    def loss_and_gradient(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        v_ND = torch.from_numpy(flat).reshape(shape).to(matrix.device)
        product_ND = matrix.multiply(v_ND)
        repelled_ND = v_ND @ (v_ND.T @ v_ND) - v_ND.square().sum(1, keepdim=True) * v_ND
        loss = matrix.sum_of_squares + (v_ND * (repelled_ND - 2 * product_ND)).sum()
        return loss.item(), (4 * (repelled_ND - product_ND)).cpu().numpy().ravel()

    for start_ND in starts:
        found = minimize(
            loss_and_gradient,
            start_ND.numpy().ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-9},
        )
        if found.fun < best.loss:
            v_ND = torch.from_numpy(found.x).reshape(shape).to(matrix.device)
            best = SpectralOptimum(v_ND, max(float(found.fun), 0.0), best.rounds, best.converged)
    return best


def _loss(
    vectors_ND: Tensor, basis_product_ND: Tensor, values_D: Tensor, matrix: SymmetricMatrix
) -> float:
    """The objective at V = Q √Λ, from X Q."""
    gram_DD = vectors_ND.T @ vectors_ND
    norms_N = vectors_ND.square().sum(1)
    cross = (vectors_ND * basis_product_ND * values_D.clamp_min(0).sqrt()).sum()
    pairs = gram_DD.square().sum() - norms_N.square().sum()
    return max(matrix.sum_of_squares + float(pairs - 2 * cross), 0.0)


class _Block:
    """Approximate leading eigenvectors of X + diag(δ), with their product with X."""

    def __init__(self, matrix: SymmetricMatrix, basis_NK: Tensor) -> None:
        self._matrix = matrix
        self._diagonal_N1 = basis_NK.new_zeros(len(basis_NK), 1)
        self._step_NK, self._step_product_NK = basis_NK[:, :0], basis_NK[:, :0]
        self._rotate(basis_NK, matrix.multiply(basis_NK), basis_NK.shape[1])

    @classmethod
    def whole(cls, matrix: SymmetricMatrix) -> _Block:
        """All eigenvectors of a small matrix."""
        return cls(matrix, torch.eye(matrix.n_items, dtype=torch.float64, device=matrix.device))

    @classmethod
    def random(cls, matrix: SymmetricMatrix, width: int, seed: int) -> _Block:
        """Start from the range of X times noise (Halko, Martinsson & Tropp 2011)."""
        generator = torch.Generator().manual_seed(seed)
        noise_NK = torch.randn(matrix.n_items, width, generator=generator, dtype=torch.float64)
        return cls(matrix, torch.linalg.qr(matrix.multiply(noise_NK.to(matrix.device)))[0])

    def leading(self, dim: int) -> Tensor:
        """V = Q √Λ of the leading eigenpairs, the negative ones taken as zero, [n, dim]."""
        vectors_ND: Tensor = self.basis_NK[:, :dim] * self.values_K[:dim].clamp_min(0).sqrt()
        return vectors_ND

    def refine(self, diagonal_N: Tensor) -> None:
        """Impute the diagonal; then look along the residuals and the last step."""
        self._diagonal_N1 = diagonal_N[:, None]
        if self.basis_NK.shape[1] == len(self.basis_NK):
            self._rotate(self.basis_NK, self.product_NK, len(self.basis_NK))
            return
        known_NK = torch.cat([self.basis_NK, self._step_NK], 1)
        known_product_NK = torch.cat([self.product_NK, self._step_product_NK], 1)
        residual_NK = beside(known_NK, self._apply(self.basis_NK, self.product_NK))
        width = self.basis_NK.shape[1]
        self._rotate(
            torch.cat([known_NK, residual_NK], 1),
            torch.cat([known_product_NK, self._matrix.multiply(residual_NK)], 1),
            width,
        )

    def _apply(self, basis_NK: Tensor, product_NK: Tensor) -> Tensor:
        return product_NK + self._diagonal_N1 * basis_NK

    def _rotate(self, basis_NS: Tensor, product_NS: Tensor, width: int) -> None:
        """Rayleigh-Ritz: keep the best `width` directions within the span of a basis."""
        inner_SS = basis_NS.T @ self._apply(basis_NS, product_NS)
        values_S, rotation_SS = torch.linalg.eigh((inner_SS + inner_SS.T) / 2)
        chosen_SK = rotation_SS[:, -width:].flip(1)  # eigh sorts ascending
        self.values_K = values_S[-width:].flip(0)
        # What is new in them, made orthogonal to them within the small space.
        step_SK = chosen_SK.clone()
        step_SK[:width] = 0
        if basis_NS.shape[1] > width:
            step_SK = beside(chosen_SK, step_SK)
            self._step_NK, self._step_product_NK = basis_NS @ step_SK, product_NS @ step_SK
        self.basis_NK, self.product_NK = basis_NS @ chosen_SK, product_NS @ chosen_SK
