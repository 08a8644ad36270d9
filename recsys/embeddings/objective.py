r"""The full-pair objective, computed exactly without forming an n × n matrix.

.. math:: c(V) = \sum_{i \ne j} (v_i^T v_j - X_{ij})^2

Writing G = VᵀV, the sum over *all* ordered pairs splits into three terms that are cheap:

    Σ_{i≠j} (v_iᵀv_j)²   =  ‖G‖²_F − Σ_i ‖v_i‖⁴          O(n d²)
    Σ_{i≠j} X_ij v_iᵀv_j  =  Σ_i v_i · (X V)_i             O(nnz d)
    Σ_{i≠j} X_ij²         =  a constant of the data

so one step costs O(nnz·d + n·d²) rather than O(n²·d), and the loss is the true one: pairs that
never co-occur count as much as those that do. The first identity is how implicit-feedback ALS
handles its zeros (Hu, Koren & Volinsky 2008, §4).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor


class PairObjective:
    """c(V) for one symmetric matrix X, on one device.

    X is divided by its largest eigenvalue λ₁, so that a learning rate means the same on every
    data set: with V = √λ₁ W, the loss is λ₁² Σ_{i≠j} (w_iᵀw_j − X_ij/λ₁)².

    Args:
        matrix: X, symmetric with zero diagonal, [n, n], not all zero.
        device: where to compute.
        dtype: of X and V.
    """

    def __init__(
        self, matrix: sp.csr_array, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self.n_items = int(matrix.shape[0])
        self.sum_of_squares = float(np.square(matrix.data.astype(np.float64)).sum())
        index_type = np.int64 if matrix.nnz > np.iinfo(np.int32).max else np.int32
        with warnings.catch_warnings():
            # torch calls its CSR tensors a beta; the product that is used here is tested.
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
            counts = torch.sparse_csr_tensor(
                torch.from_numpy(matrix.indptr.astype(index_type)),
                torch.from_numpy(matrix.indices.astype(index_type)),
                torch.from_numpy(matrix.data).to(dtype),
                size=(self.n_items, self.n_items),
                check_invariants=False,
            ).to(device)
        self.device = device
        self.has_pairs = torch.from_numpy(np.diff(matrix.indptr) > 0).to(device)
        """Whether an item co-occurs with any other, [n]."""
        self.top_eigenvalue = _top_eigenvalue(counts)
        self.scaled = counts * (1.0 / self.top_eigenvalue)

    def loss(self, w_ND: Tensor) -> Tensor:
        """The loss at W, over its value at W = 0: 1 says nothing is learned, 0 a perfect fit."""
        gram_DD = w_ND.T @ w_ND
        norms_N = w_ND.square().sum(1)
        cross: Tensor = _QuadraticForm.apply(w_ND, self.scaled)  # type: ignore[no-untyped-call]
        pairs = gram_DD.square().sum() - norms_N.square().sum()
        return 1.0 + (pairs - 2.0 * cross) / self.scaled_sum_of_squares

    @property
    def scaled_sum_of_squares(self) -> float:
        """Σ (X_ij / λ₁)², the loss at W = 0."""
        return self.sum_of_squares / self.top_eigenvalue**2


class _QuadraticForm(torch.autograd.Function):
    """Σ_ij X_ij w_iᵀw_j for symmetric X; one sparse product serves value and gradient."""

    @staticmethod
    def forward(ctx: Any, w_ND: Tensor, matrix_NN: Tensor) -> Tensor:
        product_ND = matrix_NN @ w_ND
        ctx.save_for_backward(product_ND)
        return (product_ND * w_ND).sum()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (product_ND,) = ctx.saved_tensors
        return 2.0 * grad_outputs[0] * product_ND, None


def _top_eigenvalue(matrix_NN: Tensor, iterations: int = 30) -> float:
    """λ₁ of a non-negative symmetric matrix, by power iteration from the all-ones vector.

    By Perron and Frobenius the leading eigenvector has no negative entry, so the start is
    never orthogonal to it. A little below λ₁ is as good: it only scales the learning rate.
    """
    vector_N1 = torch.ones(matrix_NN.shape[0], 1, dtype=matrix_NN.dtype, device=matrix_NN.device)
    norm = 0.0
    for _ in range(iterations):
        vector_N1 = matrix_NN @ (vector_N1 / vector_N1.norm())
        norm = float(vector_N1.norm())
    return norm
