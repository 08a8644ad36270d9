r"""The optimum of the pair objective, and the bounds of the spectrum of X, from eigenvectors.

The objective ignores the diagonal of X, which can therefore be imputed: for any V, setting
X_ii = ‖v_i‖² turns the sum over i ≠ j into a sum over all i and j, whose best V of rank d is known
(Eckart & Young 1936; the positive part of the d leading eigenpairs). Alternating the two never
increases the loss (the principal-axis method of Harman & Jones 1966, "Factor analysis by
minimizing residuals"). The eigenvectors need not be exact: one block step of LOBPCG (Knyazev 2001)
per imputation, started from the last, does as well as a full `eigsh`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from recsys.callbacks import EpochCallback, no_op
from recsys.embeddings.objective import PairMatrix

OVERSAMPLING = 8  # eigenvectors computed in addition to those needed, for faster convergence
SMALL_PROBLEM = 30  # number of items up to which random restarts are tried as well


def leading_eigenvectors(
    matrix: PairMatrix, dim: int, *, seed: int = 0, tolerance: float = 1e-4, max_iter: int = 40
) -> Tensor:
    """Q √Λ of the eigenpairs of X with the largest eigenvalues, negative ones as zero, [n, dim].

    Stops when two iterations have increased Σ λ², the part of Σ X² that is explained, by less than
    `tolerance`, relative to itself: among eigenvalues that are almost equal, any vectors of their
    eigenspaces explain as much, and exact ones would take thousands of products.
    """
    block = _EigenBlock(matrix, _start_basis(matrix, dim + OVERSAMPLING, seed))
    explained, n_stalled = 0.0, 0
    for _ in range(max_iter):
        before, explained = explained, float(block.leading(dim).square().sum(0).square().sum())
        n_stalled = n_stalled + 1 if explained - before <= tolerance * explained else 0
        if n_stalled == 2:
            break
        block.refine()
    return block.leading(dim)


def _start_basis(matrix: PairMatrix, width: int, seed: int) -> Tensor:
    """An orthonormal basis to start from, [n, width]; of the whole space if X is small."""
    # Three blocks span a small matrix, so its eigenvectors are computed exactly.
    if matrix.n_items <= 3 * width:
        return torch.eye(matrix.n_items, dtype=torch.float64, device=matrix.device)
    # The range of X times noise (Halko, Martinsson & Tropp 2011).
    generator = torch.Generator().manual_seed(seed)
    noise_NK = torch.randn(matrix.n_items, width, generator=generator, dtype=torch.float64)
    return orthonormal_basis(matrix.multiply(noise_NK.to(matrix.device)))


class KrylovSpace:
    """The span of the columns of B, X B, X² B, …, and the restriction of X to it.

    Rayleigh–Ritz in a block Krylov space (Golub & Underwood 1977, "The block Lanczos method for
    computing eigenvalues"; Musco & Musco 2015, "Randomized block Krylov methods for stronger and
    faster approximate singular value decomposition", algorithm 2) finds both ends of the spectrum
    and the leading eigenvectors more accurately than as many power iterations.

    B has `width` columns, drawn with `seed`, and `passes` products with X span the space. They use
    float32, everything else float64.
    """

    def __init__(self, matrix: PairMatrix, width: int = 4, passes: int = 4, seed: int = 0) -> None:
        if matrix.n_items <= width * passes:
            width, passes = matrix.n_items, 1  # the whole space
        noise_NB = np.random.default_rng(seed).normal(size=(matrix.n_items, width))
        # A nonnegative matrix has a nonnegative leading eigenvector (Perron–Frobenius), along which
        # a constant column has a large component.
        noise_NB[:, 0] = 1.0
        block_NB = orthonormal_basis(torch.from_numpy(noise_NB).to(matrix.device))
        self._basis_NK = block_NB
        product_NK = product_NB = matrix.multiply(block_NB.float()).double()
        for _ in range(passes - 1):
            block_NB = orthogonalize(product_NB, self._basis_NK)
            product_NB = matrix.multiply(block_NB.float()).double()
            self._basis_NK = torch.cat([self._basis_NK, block_NB], 1)
            product_NK = torch.cat([product_NK, product_NB], 1)
        inner_KK = self._basis_NK.T @ product_NK
        self._inner_KK = (inner_KK + inner_KK.T) / 2

    @property
    def bounds(self) -> tuple[float, float]:
        """Estimates of the smallest and the largest eigenvalue, from within the spectrum."""
        values_K = torch.linalg.eigvalsh(self._inner_KK)
        return min(float(values_K[0]), 0.0), float(values_K[-1])

    def best_vectors(self, dim: int, n_iter: int = 5) -> Tensor:
        """Approximate the optimum as `find_optimum` does, but within the space, [n, dim]."""
        inner_KK = self._inner_KK
        for _ in range(n_iter):
            values_K, rotation_KK = torch.linalg.eigh(inner_KK)
            values_D, rotation_KD = values_K[-dim:].flip(0), rotation_KK[:, -dim:].flip(1)
            vectors_ND: Tensor = self._basis_NK @ (rotation_KD * values_D.clamp_min(0).sqrt())
            imputed_N1 = vectors_ND.square().sum(1, keepdim=True)
            inner_KK = self._inner_KK + self._basis_NK.T @ (imputed_N1 * self._basis_NK)
        return vectors_ND


@dataclass(frozen=True, eq=False)
class SpectralOptimum:
    """The best rank-d approximation of X off its diagonal.

    Attributes:
        vectors: V, float64, [n_items, dim].
        loss: Σ_{i≠j} (v_iᵀv_j − X_ij)² at V.
        n_iter: Number of imputations of the diagonal.
        converged: Whether the loss converged to within the tolerance.
    """

    vectors: Tensor = field(repr=False)
    loss: float
    n_iter: int
    converged: bool


def find_optimum(
    matrix: PairMatrix,
    dim: int,
    *,
    seed: int = 0,
    tolerance: float = 1e-6,
    max_iter: int = 200,
    on_epoch: EpochCallback = no_op,
) -> SpectralOptimum:
    """Minimise Σ_{i≠j} (v_iᵀv_j − X_ij)² by eigenvectors with an imputed diagonal, in float64.

    Stops when two iterations have reduced the loss by less than `tolerance`, relative to itself.
    The seed of the random start affects the result only within the tolerance. `on_epoch` is
    called after each iteration with `loss` and `relative_loss`.
    """
    block = _EigenBlock(matrix, _start_basis(matrix, dim + OVERSAMPLING, seed))
    best = SpectralOptimum(torch.empty(0), float("inf"), 0, False)
    n_stalled = 0
    for iteration in range(1, max_iter + 1):
        vectors_ND = block.leading(dim)
        loss = block.loss(vectors_ND)
        on_epoch(iteration, {"loss": loss, "relative_loss": loss / matrix.sum_of_squares})
        n_stalled = n_stalled + 1 if best.loss - loss <= tolerance * loss else 0
        if loss < best.loss:
            best = SpectralOptimum(vectors_ND, loss, iteration, False)
        # A loss this small consists of rounding errors.
        if n_stalled == 2 or loss <= 1e-14 * matrix.sum_of_squares:
            best = SpectralOptimum(best.vectors, best.loss, iteration, True)
            break
        block.refine(vectors_ND.square().sum(1))
    return _random_restarts(matrix, best, seed) if matrix.n_items <= SMALL_PROBLEM else best


def _random_restarts(matrix: PairMatrix, best: SpectralOptimum, seed: int) -> SpectralOptimum:
    """Run L-BFGS from the vectors found and from noise, and return the lowest loss.

    With few items there are local optima, some at infinity, where imputation converges slowly.
    """
    shape = best.vectors.shape
    generator = torch.Generator().manual_seed(seed)
    scale = (matrix.sum_of_squares / matrix.n_items**2) ** 0.25
    noise = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(8)]

    def loss_and_gradient(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        v_ND = torch.from_numpy(flat).reshape(shape).to(matrix.device)
        product_ND = matrix.multiply(v_ND)
        gram_ND = v_ND @ (v_ND.T @ v_ND) - v_ND.square().sum(1, keepdim=True) * v_ND
        loss = matrix.sum_of_squares + (v_ND * (gram_ND - 2 * product_ND)).sum()
        return loss.item(), (4 * (gram_ND - product_ND)).cpu().numpy().ravel()

    for start_ND in (best.vectors.cpu(), *(scale * noise_ND for noise_ND in noise)):
        result = minimize(
            loss_and_gradient,
            start_ND.numpy().ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-9},
        )
        if result.fun < best.loss:
            v_ND = torch.from_numpy(result.x).reshape(shape).to(matrix.device)
            best = SpectralOptimum(v_ND, max(float(result.fun), 0.0), best.n_iter, best.converged)
    return best


class _EigenBlock:
    """Approximate leading eigenvectors of X + diag(δ), and their product with X."""

    def __init__(self, matrix: PairMatrix, basis_NK: Tensor) -> None:
        self._matrix = matrix
        self._diagonal_N1 = basis_NK.new_zeros(len(basis_NK), 1)
        self._step_NK, self._step_product_NK = basis_NK[:, :0], basis_NK[:, :0]
        self._rayleigh_ritz(basis_NK, matrix.multiply(basis_NK), basis_NK.shape[1])

    def leading(self, dim: int) -> Tensor:
        """V = Q √Λ of the leading eigenpairs; negative eigenvalues become zero, [n, dim]."""
        vectors_ND: Tensor = self.basis_NK[:, :dim] * self.values_K[:dim].clamp_min(0).sqrt()
        return vectors_ND

    def loss(self, vectors_ND: Tensor) -> float:
        """The objective at V = Q √Λ, from X Q."""
        dim = vectors_ND.shape[1]
        gram_DD = vectors_ND.T @ vectors_ND
        norms_N = vectors_ND.square().sum(1)
        scales_D = self.values_K[:dim].clamp_min(0).sqrt()
        cross = (vectors_ND * self.product_NK[:, :dim] * scales_D).sum()
        pairs = gram_DD.square().sum() - norms_N.square().sum()
        return max(self._matrix.sum_of_squares + float(pairs - 2 * cross), 0.0)

    def refine(self, diagonal_N: Tensor | None = None) -> None:
        """Impute the diagonal, if given, then search along the residuals and the last step."""
        if diagonal_N is not None:
            self._diagonal_N1 = diagonal_N[:, None]
        width = self.basis_NK.shape[1]
        if width == len(self.basis_NK):
            self._rayleigh_ritz(self.basis_NK, self.product_NK, width)
            return
        basis_NS = torch.cat([self.basis_NK, self._step_NK], 1)
        residual_NK = orthogonalize(self._apply(self.basis_NK, self.product_NK), basis_NS)
        basis_NS = torch.cat([basis_NS, residual_NK], 1)
        residual_product_NK = self._matrix.multiply(residual_NK)
        products = [self.product_NK, self._step_product_NK, residual_product_NK]
        self._rayleigh_ritz(basis_NS, torch.cat(products, 1), width)

    def _apply(self, basis_NK: Tensor, product_NK: Tensor) -> Tensor:
        return product_NK + self._diagonal_N1 * basis_NK

    def _rayleigh_ritz(self, basis_NS: Tensor, product_NS: Tensor, width: int) -> None:
        """Compute the `width` leading eigenpairs within the span of a basis."""
        inner_SS = basis_NS.T @ self._apply(basis_NS, product_NS)
        values_S, rotation_SS = torch.linalg.eigh((inner_SS + inner_SS.T) / 2)
        leading_SK = rotation_SS[:, -width:].flip(1)  # eigh sorts in ascending order
        self.values_K = values_S[-width:].flip(0)
        # The part outside the previous block, orthogonalized within the small space.
        step_SK = leading_SK.clone()
        step_SK[:width] = 0
        if basis_NS.shape[1] > width:
            step_SK = orthogonalize(step_SK, leading_SK)
            self._step_NK, self._step_product_NK = basis_NS @ step_SK, product_NS @ step_SK
        self.basis_NK, self.product_NK = basis_NS @ leading_SK, product_NS @ leading_SK


def orthogonalize(columns_NB: Tensor, basis_NK: Tensor) -> Tensor:
    """An orthonormal basis of the columns' components orthogonal to an orthonormal basis."""
    for _ in range(2):  # the second pass removes rounding errors
        columns_NB = _whiten(columns_NB - basis_NK @ (basis_NK.T @ columns_NB))
    return columns_NB


def orthonormal_basis(columns_NK: Tensor) -> Tensor:
    """An orthonormal basis of the columns; near-zero directions are dropped."""
    return _whiten(_whiten(columns_NK))  # once leaves errors of squared singular values


def _whiten(columns_NK: Tensor) -> Tensor:
    """Make columns about orthonormal by the eigenvectors of their Gram matrix.

    A singular value decomposition of a tall matrix is slower, on a GPU by far.
    """
    columns_NK = columns_NK / columns_NK.norm(dim=0).clamp_min(1e-300)
    squares_K, rotation_KK = torch.linalg.eigh(columns_NK.T @ columns_NK)
    large_K = squares_K > 1e-14 * squares_K.max().clamp_min(1e-300)
    whitened_NK: Tensor = columns_NK @ (rotation_KK[:, large_K] / squares_K[large_K].sqrt())
    return whitened_NK
