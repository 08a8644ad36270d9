"""Weightings of the counts: similarities and associations, each a formula and its source.

Below, x = X_ij, a and b are the occurrences of i and j, N the number of all
(`recsys.cooccurrence.counts.Marginals`). Each formula is applied where x > 0; all other entries
stay empty, and so does the diagonal, since an item's co-occurrence with itself is not counted:
no item is its own neighbour. An empty entry means zero, but for `pmi`, where it means −∞.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from recsys.config import Config
from recsys.cooccurrence.counts import Cooccurrence, Marginals
from recsys.cooccurrence.rows import RowBlock, csr_of

Floats = NDArray[np.float64]
WeightingName = Literal[
    "raw",
    "log1p",
    "sqrt",
    "cosine",
    "jaccard",
    "overlap",
    "conditional",
    "lift",
    "pmi",
    "ppmi",
    "shifted_ppmi",
    "lmi",
]


class WeightingConfig(Config):
    """How counts are weighted."""

    name: WeightingName = "cosine"
    """The formula, one of `WEIGHTINGS`."""

    shift: float = Field(default=5.0, ge=1)
    """k of `shifted_ppmi`: log k is taken off. It plays the part of the number of negative
    samples."""

    min_count: float = Field(default=0.0, ge=0)
    """Minimum support: entries with a smaller count are dropped."""

    shrinkage: float = Field(default=0.0, ge=0)
    """λ of the significance factor x/(x + λ), by which weights from few users shrink towards
    zero (Bell & Koren 2007, "Improved neighborhood-based collaborative filtering", §4)."""


class Cells(NamedTuple):
    """The non-zero entries of X, each with the occurrences of its row's and column's items."""

    x: Floats
    a: Floats
    b: Floats
    n: float
    shift: float


def raw(cells: Cells) -> Floats:
    """The counts as they are, x."""
    return cells.x


def log1p(cells: Cells) -> Floats:
    """log(1 + x), which dampens the counts of blockbusters."""
    return np.log1p(cells.x)


def sqrt(cells: Cells) -> Floats:
    """√x, which makes the variance of counts about the same everywhere (Bartlett 1936)."""
    return np.sqrt(cells.x)


def cosine_of(cells: Cells) -> Floats:
    """Cosine of the sets of users, x / √(a b): Salton & McGill 1983; Ochiai 1957."""
    return cells.x / np.sqrt(cells.a * cells.b)


def jaccard(cells: Cells) -> Floats:
    """Those with both among those with either, x / (a + b − x): Jaccard 1901."""
    return cells.x / (cells.a + cells.b - cells.x)


def overlap(cells: Cells) -> Floats:
    """Inclusion index, x / min(a, b): Callon, Courtial & Laville 1991."""
    return cells.x / np.minimum(cells.a, cells.b)


def conditional(cells: Cells) -> Floats:
    """P(j | i) = x / a; not symmetric: Deshpande & Karypis 2004, "Item-based top-N", with α = 0."""
    return cells.x / cells.a


def lift(cells: Cells) -> Floats:
    """P(i, j) / (P(i) P(j)) = x N / (a b): Brin, Motwani, Ullman & Tsur 1997, as `interest`."""
    return cells.x * (cells.n / cells.a) / cells.b


def pmi(cells: Cells) -> Floats:
    """log(x N / (a b)), pointwise mutual information: Church & Hanks 1990, in nats.

    Zero, stored, means as often as by chance.
    """
    return np.log(lift(cells))


def ppmi(cells: Cells) -> Floats:
    """max(0, pmi), positive pointwise mutual information: Bullinaria & Levy 2007."""
    return np.maximum(pmi(cells), 0.0)


def shifted_ppmi(cells: Cells) -> Floats:
    """max(0, pmi − log k): Levy & Goldberg 2014, eq. 10.

    What word2vec with k negative samples factorises.
    """
    shifted: Floats = np.maximum(pmi(cells) - np.log(cells.shift), 0.0)
    return shifted


def lmi(cells: Cells) -> Floats:
    """Lexicographer's mutual information, x log₂(x N / (a b)): Kilgarriff et al. 2004, in bits."""
    in_bits: Floats = cells.x * pmi(cells) / np.log(2.0)
    return in_bits


WEIGHTINGS: Mapping[WeightingName, Callable[[Cells], Floats]] = {
    "raw": raw,
    "log1p": log1p,
    "sqrt": sqrt,
    "cosine": cosine_of,
    "jaccard": jaccard,
    "overlap": overlap,
    "conditional": conditional,
    "lift": lift,
    "pmi": pmi,
    "ppmi": ppmi,
    "shifted_ppmi": shifted_ppmi,
    "lmi": lmi,
}
_DROP_ZEROS = ("ppmi", "shifted_ppmi")
"""Where zero is what an empty entry means, and many entries are zero."""


def weight(counts: Cooccurrence, config: WeightingConfig | None = None) -> sp.csr_array:
    """Weight the counts.

    Args:
        counts: X_ij.
        config: which formula, minimum support and shrinkage; by default the cosine.

    Returns:
        float32, [n_items, n_items], columns ascending, nowhere non-zero where X is zero.

    Example:
        >>> import pandas as pd
        >>> from recsys.cooccurrence import count_cooccurrence
        >>> from recsys.data import read_ratings
        >>> log = pd.DataFrame({"user_id": [1, 1, 2, 2, 3, 4], "item_id": [7, 8, 7, 8, 7, 9]})
        >>> counts = count_cooccurrence(read_ratings(log))
        >>> weight(counts, WeightingConfig(name="lift")).toarray().tolist()  # 2 · 4 / (3 · 2)
        [[0.0, 1.3333333730697632, 0.0], [1.3333333730697632, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    block = RowBlock(0, counts.matrix)
    return weight_block(block, counts.marginals(), config or WeightingConfig()).matrix


def cosine(counts: Cooccurrence) -> sp.csr_array:
    """Cosine between the sets of users who liked each item: X_ij / √(n_i n_j).

    Returns:
        float32, symmetric, [n_items, n_items], non-zero where the counts are.
    """
    return weight(counts, WeightingConfig(name="cosine"))


def weight_block(block: RowBlock, marginals: Marginals, config: WeightingConfig) -> RowBlock:
    """Weight some rows of X; what the weights need to know of other rows is in `marginals`.

    Args:
        block: rows of counts.
        marginals: of all items.
        config: which formula, minimum support and shrinkage.
    """
    matrix = block.matrix
    kept = matrix.data >= config.min_count
    lengths = np.diff(matrix.indptr)
    x = matrix.data[kept].astype(np.float64)
    columns = matrix.indices[kept]
    row_of = np.repeat(np.arange(block.start, block.stop), lengths)[kept]
    cells = Cells(
        x, marginals.rows[row_of], marginals.columns[columns], marginals.total, config.shift
    )
    weights = WEIGHTINGS[config.name](cells)
    if config.shrinkage:
        weights = weights * (x / (x + config.shrinkage))
    ends = np.bincount(row_of - block.start, minlength=len(lengths)).cumsum()
    offsets = np.concatenate([[0], ends])
    weighted = csr_of(weights.astype(np.float32), columns, offsets, matrix.shape)
    if config.name in _DROP_ZEROS:
        weighted.eliminate_zeros()
    return RowBlock(block.start, weighted)
