r"""The full-pair objective, computed exactly without forming an n × n matrix.

.. math:: c(V) = \sum_{i \ne j} (v_i^T v_j - X_{ij})^2 = \sum_i c_i

With G = VᵀV, the contribution c_i of row i splits into three cheap terms:

    Σ_{j≠i} (v_iᵀv_j)²   =  v_iᵀ G v_i − ‖v_i‖⁴     gram term, O(d²)
    Σ_{j≠i} X_ij v_iᵀv_j  =  v_i · (X V)_i           data term, O(nnz_i d)
    Σ_{j≠i} X_ij²         =  a constant

One pass costs O(nnz·d + n·d²) instead of O(n²·d), and pairs that never co-occur count as much as
those that do. The first identity is how implicit-feedback ALS handles its zeros (Hu, Koren &
Volinsky 2008, §4). X is symmetric, so the gradient of c with respect to v_i is twice that of c_i:
random rows give unbiased estimates of the loss and of its gradient.

With pair weights, f_ij where X_ij is non-zero and w₀ elsewhere, the gram term is multiplied by w₀,
and the non-zero pairs add (f_ij − w₀)(v_iᵀv_j)².
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.arguments import require_type
from recsys.cooccurrence import Cooccurrence, CooccurrenceBlocks, WeightedBlocks
from recsys.cooccurrence.blocks import stack_blocks
from recsys.embeddings.config import PairWeights
from recsys.errors import ConfigError, DataError
from recsys.vocabulary import Vocabulary

RowBlocks = Iterable[tuple[int, sp.csr_array]]
"""(first row, rows of X) in order; iterated once per pass."""

Counts = Cooccurrence | CooccurrenceBlocks | WeightedBlocks | sp.sparray | sp.spmatrix | RowBlocks
"""X: counts in memory or on disk, any symmetric matrix, or row blocks."""


_ENTRY_BYTES: Final = 24
"""Memory per entry of an X that is kept: a column, the count, and both floating-point types."""


class SparseRows:
    """Rows of X, [B, n_items], as torch tensors on a device, with their pair weights."""

    def __init__(self, rows: slice | Tensor, csr: sp.csr_array, matrix: PairMatrix) -> None:
        index_type = np.int64 if csr.nnz > np.iinfo(np.int32).max else np.int32
        f = None if matrix.weights is None else _glove_weights(csr.data, matrix.weights)
        self.rows = rows
        """Which rows of X these are."""
        self.weights = None if f is None else torch.from_numpy(f).to(matrix.device, torch.float32)
        self.sum_of_squares = _sum_of_squares(csr.data, f)
        """Σ X_ij² over these rows, weighted if there are pair weights."""
        self._shape: tuple[int, int] = csr.shape
        index = (array.astype(index_type, copy=False) for array in (csr.indptr, csr.indices))
        self._offsets, self._columns, self._values = (
            torch.from_numpy(array).to(matrix.device) for array in (*index, csr.data)
        )
        self._cache: dict[torch.dtype, Tensor] = {}

    def matrix(self, dtype: torch.dtype) -> Tensor:
        """The rows as a sparse tensor, cached per dtype."""
        if dtype not in self._cache:
            self._cache[dtype] = self.with_values(self._values.to(dtype))
        return self._cache[dtype]

    def with_values(self, values: Tensor) -> Tensor:
        """A sparse tensor with the sparsity of X and other values."""
        with warnings.catch_warnings():
            # torch warns that its CSR tensors are in beta.
            warnings.filterwarnings("ignore", message="Sparse (CSR tensor|invariant)")
            return torch.sparse_csr_tensor(
                self._offsets, self._columns, values, size=self._shape, check_invariants=False
            )


class PairMatrix:
    """X in memory, or read block by block in every pass.

    Counts on disk are kept in memory if they fit into `memory_limit`, a number of bytes.

    Raises:
        DataError: X is not square and symmetric with a zero diagonal, has values that are not
            finite, or is zero; or the blocks are not consecutive.
    """

    def __init__(
        self,
        counts: Counts,
        device: torch.device,
        weights: PairWeights | None = None,
        items: Vocabulary | None = None,
        memory_limit: int = 0,
    ) -> None:
        self.device, self.weights = device, weights
        self._matrix: sp.csr_array | None = None
        self._cached: SparseRows | None = None
        self._read: Callable[[], RowBlocks]
        if isinstance(counts, Cooccurrence | CooccurrenceBlocks | WeightedBlocks):
            items = counts.items
        if isinstance(counts, Cooccurrence):
            counts = counts.matrix
        elif (
            isinstance(counts, CooccurrenceBlocks | WeightedBlocks)
            and _ENTRY_BYTES * counts.n_entries <= memory_limit
        ):
            counts = stack_blocks(counts, counts.n_items, counts.n_entries)
        if isinstance(counts, sp.sparray | sp.spmatrix):
            matrix: sp.csr_array = sp.csr_array(counts)  # type: ignore[call-overload]
            self._matrix, self._read = matrix, lambda: [(0, matrix)]
            self._cached = SparseRows(slice(0, matrix.shape[0]), matrix, self)
        elif isinstance(counts, CooccurrenceBlocks | WeightedBlocks):
            on_disk = counts
            self._read = lambda: ((block.start, block.matrix) for block in on_disk)
        elif isinstance(counts, Iterator):
            raise DataError("X is an iterator, which can be read only once: pass a list of blocks")
        else:
            row_blocks = counts
            self._read = lambda: _checked(row_blocks)
        self._scan()
        self.items = Vocabulary(np.arange(self.n_items)) if items is None else items
        if len(self.items) != self.n_items:
            raise DataError(f"X has {self.n_items} rows, but `items` has {len(self.items)} ids")

    def _scan(self) -> None:
        """Validate X and compute its size, its sum of squares and its empty rows."""
        self.n_items = next((block.shape[1] for _, block in self._read()), 0)
        self.sum_of_squares, next_row = 0.0, 0
        """Σ X_ij²."""
        has_pairs, products = [np.empty(0, np.bool_)], []
        probes_N2 = np.random.default_rng(0).normal(size=(self.n_items, 2))
        for first, matrix in self._read():
            n_rows, n_columns = matrix.shape
            if first != next_row:
                raise DataError(f"a block starts at row {first}, expected row {next_row}")
            if n_columns != self.n_items:
                raise DataError(
                    f"the block at row {first} has {n_columns} columns, the first {self.n_items}"
                )
            if not np.isfinite(matrix.data).all():
                raise DataError(
                    "X is not finite everywhere: replace values, or use log1p of counts"
                )
            next_row += n_rows
            if next_row <= self.n_items and matrix.diagonal(first).any():
                raise DataError("X has values on its diagonal: set them to zero, X.setdiag(0)")
            self.sum_of_squares += _sum_of_squares(matrix.data)
            has_pairs.append(np.diff(matrix.indptr) > 0)
            products.append(matrix @ probes_N2)  # float64: rows may be long
        if next_row != self.n_items:
            raise DataError(f"X has {self.n_items} columns but {next_row} rows: it must be square")
        if self.sum_of_squares == 0:
            raise DataError("no two items co-occur: there is nothing to fit")
        # If X is symmetric, yᵀ(X x) = xᵀ(X y) for all x and y; otherwise for almost none.
        crossed_22 = probes_N2.T @ np.concatenate(products)
        if abs(float(crossed_22[0, 1] - crossed_22[1, 0])) > 1e-5 * self.sum_of_squares**0.5:
            raise DataError("X is not symmetric: fit (X + X.T) / 2, or use a symmetric window")
        self.has_pairs = torch.from_numpy(np.concatenate(has_pairs)).to(self.device)
        """Whether each item co-occurs with any other, [n_items]."""

    def check_dim(self, dim: int) -> None:
        """Raise DataError unless there are more items than dimensions."""
        if dim >= self.n_items:
            raise DataError(f"only {self.n_items} items for embeddings of dim {dim}: lower dim")

    def blocks(self) -> Iterator[SparseRows]:
        """All rows, once."""
        for first, matrix in self._read():
            rows = slice(first, first + matrix.shape[0])
            yield self._cached or SparseRows(rows, matrix, self)

    def sample(self, rows: NDArray[np.int64]) -> SparseRows:
        """The rows with the given indices, [B]; raises ConfigError if X is not in memory."""
        if self._matrix is None:
            raise ConfigError("batch_rows needs X in memory, not in row blocks: remove batch_rows")
        index = torch.from_numpy(rows).to(self.device)
        return SparseRows(index, self._matrix[rows], self)

    def multiply(self, w_ND: Tensor) -> Tensor:
        """X W in the dtype of W, [n_items, d]."""
        product_ND = torch.empty_like(w_ND)
        for block in self.blocks():
            product_ND[block.rows] = block.matrix(w_ND.dtype) @ w_ND
        return product_ND


def _checked(blocks: RowBlocks) -> RowBlocks:
    """Yield row blocks; raise a `DataError` if they are something else."""
    is_valid = isinstance(blocks, Iterable) and not isinstance(blocks, np.ndarray)
    for block in blocks if is_valid else ():
        is_valid = isinstance(block, tuple) and len(block) == 2 and sp.issparse(block[1])
        if not is_valid:
            break
        yield block
    if not is_valid:
        require_type(blocks, Cooccurrence, "count_cooccurrence")


class PairObjective:
    """c(V) for one matrix X, given bounds of its spectrum.

    X is divided by its largest eigenvalue λ₁, so that a learning rate has the same meaning for
    every data set and weighting: with V = √λ₁ W, the loss is λ₁² Σ_{i≠j} (w_iᵀw_j − X_ij/λ₁)².
    Products with X use the dtype of W. Everything else, where large terms nearly cancel, is
    computed in float64.
    """

    def __init__(self, matrix: PairMatrix, bounds: tuple[float, float]) -> None:
        self.matrix = matrix
        self.n_items = matrix.n_items
        self.zero_weight = 1.0 if matrix.weights is None else matrix.weights.zero_weight
        smallest, largest = bounds
        self.top_eigenvalue = max(largest, -smallest)
        """λ₁, the largest eigenvalue in magnitude. It only scales, so an estimate suffices."""
        self.lowest_eigenvalue = smallest / self.top_eigenvalue
        """The smallest eigenvalue of X / λ₁, at most zero."""
        self.sum_of_squares = matrix.sum_of_squares
        """The loss at V = 0: Σ X_ij², weighted if there are pair weights."""
        if matrix.weights is not None:
            self.sum_of_squares = sum(block.sum_of_squares for block in matrix.blocks())
        self.scaled_sum_of_squares = self.sum_of_squares / self.top_eigenvalue**2
        """The loss of X / λ₁ at W = 0."""

    def loss(self, w_ND: Tensor) -> Tensor:
        """The loss at W relative to the loss at W = 0: 0 for a perfect fit."""
        return self._relative_loss(w_ND, self.matrix.blocks(), 1.0)

    def sampled_loss(self, w_ND: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """An unbiased estimate of `loss` and its gradient from uniformly drawn rows, [B]."""
        return self._relative_loss(w_ND, [self.matrix.sample(rows)], self.n_items / len(rows))

    def _relative_loss(self, w_ND: Tensor, blocks: Iterable[SparseRows], scale: float) -> Tensor:
        loss: Tensor = _PairLoss.apply(w_ND, self, blocks)  # type: ignore[no-untyped-call]
        return loss * (scale / self.scaled_sum_of_squares)

    def rows(self, w_ND: Tensor, gram_DD: Tensor, block: SparseRows) -> tuple[Tensor, Tensor]:
        """Σ c_i over a block of rows, and its gradient, [B, d]; both float64."""
        w_BD = w_ND[block.rows].double()
        norms_B1 = w_BD.square().sum(1, keepdim=True)
        gram_BD = self.zero_weight * (w_BD @ gram_DD - norms_B1 * w_BD)
        value, data_BD = self._data_term(w_ND, w_BD, block)
        return (w_BD * gram_BD).sum() + value, 4.0 * (gram_BD + data_BD)

    def _data_term(self, w_ND: Tensor, w_BD: Tensor, block: SparseRows) -> tuple[Tensor, Tensor]:
        """The contribution of the non-zeros to the loss, and a quarter of that to the gradient."""
        matrix_BN = block.matrix(w_ND.dtype)
        scale = 1.0 / self.top_eigenvalue
        if block.weights is None:
            data_BD = (matrix_BN @ w_ND).double() * -scale
            squares = block.sum_of_squares * scale**2
            return 2.0 * (w_BD * data_BD).sum() + squares, data_BD
        weights = block.weights.to(w_ND.dtype)
        targets = matrix_BN.values() * scale
        rows_BD = w_BD.to(w_ND.dtype).contiguous()
        products = torch.sparse.sampled_addmm(matrix_BN, rows_BD, w_ND.T, beta=0.0).values()
        # (f − w₀) p² − 2 f x p + f x², rearranged to avoid cancellation.
        errors = (weights * (products - targets).square()).double().sum()
        value = errors - self.zero_weight * products.double().square().sum()
        slope = weights * (products - targets) - self.zero_weight * products
        return value, (block.with_values(slope) @ w_ND).double()


class _PairLoss(torch.autograd.Function):
    """Σ c_i over row blocks; one pass over X computes value and gradient."""

    @staticmethod
    def forward(
        ctx: Any, w_ND: Tensor, objective: PairObjective, blocks: Iterable[SparseRows]
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


def _glove_weights(values: NDArray[Any], weights: PairWeights) -> NDArray[np.float64]:
    """f(X) of Pennington et al. 2014, eq. 9."""
    if (values < 0).any():
        raise DataError(
            f"pair_weights are powers of X, but X has the value {values.min():g}: remove "
            "pair_weights, or choose a weighting without negative values"
        )
    f: NDArray[np.float64] = np.minimum(values / weights.x_max, 1.0) ** weights.alpha
    return f


def _sum_of_squares(values: NDArray[Any], weights: NDArray[np.float64] | None = None) -> float:
    exact = values.astype(np.float64)
    # `np.dot` uses the threads of BLAS, which for a while wait actively, beside those of torch.
    return float(np.einsum("i,i", exact, exact if weights is None else exact * weights))
