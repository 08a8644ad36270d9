"""The co-occurrence matrix X_ij, in one piece or as blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.cooccurrence.config import Window
from recsys.vocabulary import Vocabulary


class Marginals(NamedTuple):
    """How often each item occurs; weightings divide by this.

    Without a window, an item occurs once for each of its users, or as often as they weight it, and
    the total is the number of users. With a window, it occurs once for each pair that it is part
    of, and the total is the number of pairs (Levy & Goldberg 2014, §2).
    """

    rows: NDArray[np.float64]
    """Occurrences of i as a row of X, [n_items]."""
    columns: NDArray[np.float64]
    """Occurrences of j as a column of X, [n_items]; equal to `rows` if X is symmetric."""
    total: float
    squares: NDArray[np.float64] | None = None
    """Σ_u w_ui², [n_items], the square of the length of an item's vector of users; None with a
    window."""


class EventWeights(NamedTuple):
    """Weights w_ui of users and items, in whole units, so that sums are exact."""

    per_unit: int
    """Units in a weight of 1: 10 if the weights are 0.1, 0.5 and 1."""
    sums: NDArray[np.int64]
    """Σ_u w_ui in these units, [n_items]."""
    squares: NDArray[np.int64]
    """Σ_u w_ui² in squares of these units, [n_items]."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CountMetadata:
    """How the counts were made."""

    item_counts: NDArray[np.int64]
    """Number of users of each item, [n_items]."""
    n_users: int
    min_rating: float | None
    items: Vocabulary
    window: Window | None = None
    """None if all pairs of a history count."""
    weights: EventWeights | None = None
    """None if all events count the same."""

    def __repr__(self) -> str:
        size = f"{self.n_items:,} items, counted over {self.n_users:,} users"
        return f"<{type(self).__name__} of {size}>"

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return len(self.items)

    @property
    def is_symmetric(self) -> bool:
        """Whether X_ij = X_ji by definition."""
        return self.window is None or self.window.direction == "symmetric"

    @property
    def divisor(self) -> int:
        """What the integers that are counted and stored are divided by to give counts."""
        if self.weights is not None:
            return self.weights.per_unit**2
        return 1 if self.window is None else self.window.divisor

    def metadata(self) -> dict[str, Any]:
        """The fields of this class, by name."""
        return {field.name: getattr(self, field.name) for field in fields(CountMetadata)}

    def size_metrics(self, n_entries: int) -> dict[str, float]:
        """Size and density of an X with so many non-zero entries."""
        return {
            "positive_items": float(np.count_nonzero(self.item_counts)),
            "positive_interactions": float(self.item_counts.sum()),
            "pairs": n_entries / 2 if self.is_symmetric else n_entries,
            "density": n_entries / max(self.n_items * (self.n_items - 1), 1),
        }

    def set_marginals(self) -> Marginals:
        """The marginals of counts without a window."""
        sums = squares = self.item_counts.astype(np.float64)
        if self.weights is not None:
            sums = self.weights.sums / self.weights.per_unit
            squares = self.weights.squares / self.divisor
        return Marginals(sums, sums, float(self.n_users), squares)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Cooccurrence(CountMetadata):
    """Item-item co-occurrence counts."""

    matrix: sp.csr_array
    """X_ij, [n_items, n_items], zero diagonal, columns ascending. int32 and symmetric by default:
    the number of users with both i and j. float64 if events have weights. With a window int64, or
    float64 if decayed; symmetric unless its direction is `forward`."""

    def __iter__(self) -> Iterator[RowBlock]:
        """All rows, as one block."""
        yield RowBlock(0, self.matrix)

    def marginals(self) -> Marginals:
        """How often each item occurs."""
        if self.window is None:
            return self.set_marginals()
        rows = np.asarray(self.matrix.sum(axis=1), np.float64)
        columns = np.asarray(self.matrix.sum(axis=0), np.float64)
        return Marginals(rows, columns, float(rows.sum()))

    def summary(self) -> dict[str, float]:
        """Size and density of the matrix."""
        return self.size_metrics(self.matrix.nnz)


class RaggedArray(NamedTuple):
    """Rows of different lengths: row r is `values[offsets[r]:offsets[r + 1]]`."""

    offsets: NDArray[np.int64]
    values: NDArray[Any]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of values in each row."""
        return np.diff(self.offsets)


class CsrBuffers(NamedTuple):
    """Arrays to count a block of rows into."""

    offsets: NDArray[np.int64]
    """[n_rows + 1], the first one zero."""
    columns: NDArray[np.int32]
    counts: NDArray[Any]


@dataclass(frozen=True, eq=False)
class RowBlock:
    """Consecutive rows of X."""

    start: int
    """Index of the first row."""
    matrix: sp.csr_array
    """The rows, [n_rows, n_items], columns ascending, zeros not stored."""

    @property
    def stop(self) -> int:
        """Index after the last row."""
        return self.start + int(self.matrix.shape[0])

    def copy(self) -> RowBlock:
        """A copy that owns its memory."""
        return RowBlock(self.start, self.matrix.copy())

    def divided(self, divisor: int) -> RowBlock:
        """The block with its counts divided, each rounded once; unchanged if that is by one."""
        if divisor == 1:
            return self
        matrix = self.matrix.astype(np.float64)
        matrix.data /= divisor  # scipy would multiply by 1 / divisor, and round twice
        return RowBlock(self.start, matrix)


def make_csr(
    data: NDArray[Any],
    columns: NDArray[np.int32],
    offsets: NDArray[np.int64],
    shape: tuple[int, int],
) -> sp.csr_array:
    """Wrap arrays as a CSR matrix, with 32-bit indices if they suffice.

    scipy needs offsets and columns of the same type. It would copy the columns to 64 bits.
    """
    dtype = np.int32 if offsets[-1] < 2**31 else np.int64
    indices = columns.astype(dtype, copy=False), offsets.astype(dtype, copy=False)
    return sp.csr_array((data, *indices), shape=shape)
