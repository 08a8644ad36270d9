"""X on its way into the objective: checked, on a device, in one piece or row block by row block."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.embeddings.config import PairWeights
from recsys.errors import ConfigError, DataError

RowBlocks = Iterable[tuple[int, sp.csr_array]]
"""(first row, those rows of X) from the first row to the last; read anew for every pass."""

Source = sp.sparray | sp.spmatrix | RowBlocks
"""X in memory, or in row blocks."""


class RowBlock:
    """Some rows of X as torch holds them.

    Args:
        rows: which rows of X these are.
        matrix: the rows, [B, n_items].
        weights: of the pairs, if they are not all alike.
        device: where to hold them.
    """

    def __init__(
        self,
        rows: slice | Tensor,
        matrix: sp.csr_array,
        weights: PairWeights | None,
        device: torch.device,
    ) -> None:
        index_type = np.int64 if matrix.nnz > np.iinfo(np.int32).max else np.int32
        self.rows = rows
        self.shape: tuple[int, int] = matrix.shape
        f = None if weights is None else _f(matrix.data, weights)
        self.weights = None if f is None else torch.from_numpy(f).to(device, torch.float32)
        self.sum_of_squares = _sum_of_squares(matrix.data, f)
        """Σ X_ij² of these rows, weighted where the pairs are."""
        self._offsets = torch.from_numpy(matrix.indptr.astype(index_type, copy=False)).to(device)
        self._columns = torch.from_numpy(matrix.indices.astype(index_type, copy=False)).to(device)
        self._values = torch.from_numpy(matrix.data).to(device)
        self._cast: dict[torch.dtype, Tensor] = {}

    def matrix(self, dtype: torch.dtype) -> Tensor:
        """The rows as a sparse tensor, made once per precision, [B, n_items]."""
        if dtype not in self._cast:
            self._cast[dtype] = self.with_values(self._values.to(dtype))
        return self._cast[dtype]

    def with_values(self, values: Tensor) -> Tensor:
        """Other values where X has its own, as a sparse tensor, [B, n_items]."""
        with warnings.catch_warnings():
            # torch calls its CSR tensors a beta; the products that are used here are tested.
            warnings.filterwarnings("ignore", message="Sparse (CSR tensor|invariant)")
            return torch.sparse_csr_tensor(
                self._offsets, self._columns, values, size=self.shape, check_invariants=False
            )


def _f(values: NDArray[Any], weights: PairWeights) -> NDArray[np.float64]:
    """f(X) of Pennington et al. 2014, eq. 9."""
    if (values < 0).any():
        raise DataError(
            f"pair_weights are powers of X, and X holds {values.min():g}: leave them out, "
            "or take a weighting without negative values"
        )
    shares: NDArray[np.float64] = np.minimum(values / weights.x_max, 1.0) ** weights.alpha
    return shares


class PairMatrix:
    """X, symmetric with zero diagonal.

    Args:
        source: X as a sparse matrix; or its row blocks, for one that does not fit into memory.
        device: where to compute.
        weights: of the pairs, if they are not all alike.

    Raises:
        DataError: X is not square and symmetric with a zero diagonal, holds values that are not
            finite, or nothing but zeros; or blocks do not follow one another.
    """

    def __init__(
        self,
        source: Source,
        device: torch.device,
        weights: PairWeights | None = None,
    ) -> None:
        self.device = device
        self.weights = weights
        self._whole: RowBlock | None = None
        self._source: RowBlocks
        if isinstance(source, sp.sparray | sp.spmatrix):
            matrix: sp.csr_array = sp.csr_array(source)  # type: ignore[call-overload]
            self._source = [(0, matrix)]
            self._whole = RowBlock(slice(0, matrix.shape[0]), matrix, weights, device)
        elif isinstance(source, Iterator):
            raise DataError(
                "an iterator can be read only once, and every pass over X needs its blocks anew: "
                "give a list, or an object whose __iter__ starts from the first row"
            )
        else:
            self._source = source
        self._read_once()

    def _read_once(self) -> None:
        """Learn the size of X and which rows are empty; refuse it where it is not as it must be."""
        self.n_items = next((block.shape[1] for _, block in self._source), 0)
        self.sum_of_squares, next_row = 0.0, 0
        """Σ X_ij²."""
        has_pairs, products = [np.empty(0, np.bool_)], []
        probes_N2 = np.random.default_rng(0).normal(size=(self.n_items, 2))
        for first, matrix in self._source:
            _check_block(first, matrix, next_row, self.n_items)
            next_row += matrix.shape[0]
            self.sum_of_squares += _sum_of_squares(matrix.data)
            has_pairs.append(np.diff(matrix.indptr) > 0)
            products.append(matrix @ probes_N2)  # in double precision: rows may be long
        if next_row != self.n_items:
            raise DataError(f"X has {self.n_items} columns but {next_row} rows: it must be square")
        if self.sum_of_squares == 0:
            raise DataError("no two items were liked by the same user: there is nothing to fit")
        # yᵀ(X x) = xᵀ(X y) for any x and y if X is symmetric, and else for hardly any.
        crossed_22 = probes_N2.T @ np.concatenate(products)
        if abs(float(crossed_22[0, 1] - crossed_22[1, 0])) > 1e-5 * self.sum_of_squares**0.5:
            raise DataError("X is not symmetric: fit (X + X.T) / 2, or count pairs without order")
        self.has_pairs = torch.from_numpy(np.concatenate(has_pairs)).to(self.device)
        """Whether an item co-occurs with any other, [n_items]."""

    def blocks(self) -> Iterator[RowBlock]:
        """All rows, once."""
        if self._whole is not None:
            yield self._whole
            return
        for first, matrix in self._source:
            yield self._block(first, matrix)

    def _block(self, first: int, matrix: sp.csr_array) -> RowBlock:
        rows = slice(first, first + matrix.shape[0])
        return RowBlock(rows, matrix, self.weights, self.device)

    def sample(self, rows: NDArray[np.int64]) -> RowBlock:
        """The rows with these indices, [B].

        Raises:
            ConfigError: X is read in row blocks.
        """
        if self._whole is None:
            raise ConfigError(
                "batch_rows needs X in memory, and it comes in row blocks: leave batch_rows out"
            )
        ((_, matrix),) = self._source
        index = torch.from_numpy(rows).to(self.device)
        return RowBlock(index, matrix[rows], self.weights, self.device)

    def multiply(self, w_ND: Tensor) -> Tensor:
        """X W, in the precision of W."""
        product_ND = torch.empty_like(w_ND)
        for block in self.blocks():
            product_ND[block.rows] = block.matrix(w_ND.dtype) @ w_ND
        return product_ND


def _sum_of_squares(values: NDArray[Any], weights: NDArray[np.float64] | None = None) -> float:
    exact = values.astype(np.float64)
    return float(np.dot(exact, exact if weights is None else exact * weights))


def _check_block(first: int, block: sp.csr_array, next_row: int, n_items: int) -> None:
    if first != next_row:
        raise DataError(f"a block starts at row {first} where row {next_row} was to come next")
    if block.shape[1] != n_items:
        raise DataError(
            f"the block at row {first} has {block.shape[1]} columns, the first has {n_items}"
        )
    if not np.isfinite(block.data).all():
        raise DataError("X holds values that are not finite: replace them, or take log1p of counts")
    if first + block.shape[0] <= n_items and block.diagonal(first).any():
        raise DataError(
            "X has values on its diagonal, which the objective leaves out: set them to zero, "
            "X.setdiag(0)"
        )
