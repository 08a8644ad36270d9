r"""The full-pair objective, computed exactly without forming an n × n matrix.

.. math:: c(V) = \sum_{i \ne j} (v_i^T v_j - X_{ij})^2 = \sum_i c_i

Writing G = VᵀV, the part c_i of row i splits into terms that are cheap:

    Σ_{j≠i} (v_iᵀv_j)²   =  v_iᵀ G v_i − ‖v_i‖⁴     O(d²)
    Σ_{j≠i} X_ij v_iᵀv_j  =  v_i · (X V)_i           O(nnz_i d)
    Σ_{j≠i} X_ij²         =  a constant of the data

so one pass costs O(nnz·d + n·d²) rather than O(n²·d), and the loss is the true one: pairs that
never co-occur count as much as those that do. The first identity is how implicit-feedback ALS
handles its zeros (Hu, Koren & Volinsky 2008, §4).

X is symmetric, so v_i has the same part in Σ_j c_j as in c_i: the gradient of c by v_i is twice
that of c_i. Rows drawn at random therefore give an unbiased estimate of the gradient as well as
of the loss, and one whose noise vanishes where the gradient does.

With pair weights, f_ij where X_ij is not zero and w₀ elsewhere, the first term is multiplied by
w₀, and the pairs that are not zero add (f_ij − w₀)(v_iᵀv_j)².
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.embeddings.eigenvalues import Ends, KrylovSpace
from recsys.embeddings.matrices import PairMatrix, RowBlock


class PairObjective:
    """c(V) for one matrix X.

    X is divided by its largest eigenvalue λ₁, so that a learning rate means the same on every
    data set and weighting: with V = √λ₁ W, the loss is λ₁² Σ_{i≠j} (w_iᵀw_j − X_ij/λ₁)².

    The products with X are computed in the precision of W; all else, where large terms nearly
    cancel, in float64.

    Args:
        matrix: X.
        ends: of its spectrum, where they are known.
    """

    def __init__(self, matrix: PairMatrix, ends: Ends | None = None) -> None:
        self.matrix = matrix
        self.n_items = matrix.n_items
        self.zero_weight = 1.0 if matrix.weights is None else matrix.weights.zero_weight
        smallest, largest = ends or KrylovSpace(matrix).ends
        self.top_eigenvalue = max(largest, -smallest)
        """λ₁, the largest in magnitude: a little below it is as good, for it only scales."""
        self.lowest_eigenvalue = smallest / self.top_eigenvalue
        """The smallest of X / λ₁, zero or less."""
        self.sum_of_squares = matrix.sum_of_squares
        """The loss at V = 0: Σ X_ij², weighted where the pairs are."""
        if matrix.weights is not None:
            self.sum_of_squares = sum(block.sum_of_squares for block in matrix.blocks())

    @property
    def scaled_sum_of_squares(self) -> float:
        """The loss at W = 0, of X / λ₁."""
        return self.sum_of_squares / self.top_eigenvalue**2

    def loss(self, w_ND: Tensor) -> Tensor:
        """The loss at W, over its value at W = 0: 1 says nothing is learned, 0 a perfect fit."""
        return self._over_blocks(w_ND, self.matrix.blocks(), 1.0)

    def sampled_loss(self, w_ND: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """An unbiased estimate of `loss` and of its gradient from some rows against all.

        Args:
            w_ND: W.
            rows: distinct indices, each drawn with equal probability, [B].
        """
        return self._over_blocks(w_ND, [self.matrix.sample(rows)], self.n_items / len(rows))

    def _over_blocks(self, w_ND: Tensor, blocks: Iterable[RowBlock], times: float) -> Tensor:
        loss: Tensor = _PairLoss.apply(w_ND, self, blocks)  # type: ignore[no-untyped-call]
        return loss * (times / self.scaled_sum_of_squares)

    def rows(self, w_ND: Tensor, gram_DD: Tensor, block: RowBlock) -> tuple[Tensor, Tensor]:
        """Σ c_i over the rows of a block, and the gradient of c by them, [B, d]; both float64."""
        w_BD = w_ND[block.rows].double()
        norms_B1 = w_BD.square().sum(1, keepdim=True)
        repelled_BD = self.zero_weight * (w_BD @ gram_DD - norms_B1 * w_BD)
        value, attracted_BD = self._non_zeros(w_ND, w_BD, block)
        return (w_BD * repelled_BD).sum() + value, 4.0 * (repelled_BD + attracted_BD)

    def _non_zeros(self, w_ND: Tensor, w_BD: Tensor, block: RowBlock) -> tuple[Tensor, Tensor]:
        """What the pairs that are not zero add to the loss, and a quarter of the gradient."""
        matrix_BN = block.matrix(w_ND.dtype)
        scale = 1.0 / self.top_eigenvalue
        if block.weights is None:
            pulled_BD = (matrix_BN @ w_ND).double() * -scale
            squares = block.sum_of_squares * scale**2
            return 2.0 * (w_BD * pulled_BD).sum() + squares, pulled_BD
        weights = block.weights.to(w_ND.dtype)
        targets = matrix_BN.values() * scale
        rows_BD = w_BD.to(w_ND.dtype).contiguous()
        products = torch.sparse.sampled_addmm(matrix_BN, rows_BD, w_ND.T, beta=0.0).values()
        # (f − w₀) p² − 2 f x p + f x², written so that nothing cancels.
        errors = (weights * (products - targets).square()).double().sum()
        value = errors - self.zero_weight * products.double().square().sum()
        pull = weights * (products - targets) - self.zero_weight * products
        return value, (block.with_values(pull) @ w_ND).double()


class _PairLoss(torch.autograd.Function):
    """Σ c_i over row blocks; one pass over X serves value and gradient."""

    @staticmethod
    def forward(
        ctx: Any, w_ND: Tensor, objective: PairObjective, blocks: Iterable[RowBlock]
    ) -> Tensor:
        exact_ND = w_ND.double()
        gram_DD = exact_ND.T @ exact_ND
        gradient_ND = torch.zeros_like(w_ND)
        total = torch.zeros((), dtype=torch.float64, device=w_ND.device)
        for block in blocks:
            value, gradient_BD = objective.rows(w_ND, gram_DD, block)
            total += value
            gradient_ND[block.rows] = gradient_BD.to(w_ND.dtype)
        ctx.save_for_backward(gradient_ND)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (gradient_ND,) = ctx.saved_tensors
        return grad_outputs[0].to(gradient_ND.dtype) * gradient_ND, None, None
