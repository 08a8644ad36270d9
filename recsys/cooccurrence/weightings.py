"""Weightings of the counts: similarities and association measures.

In the formulas, x = X_ij, a and b are the occurrences of i and j, and N is the total
(`recsys.cooccurrence.Marginals`): numbers of users. If events have weights, the occurrences are
Σ_u w_ui, but for the cosine and the Jaccard index of vectors Σ_u w_ui². A formula is applied
where x > 0; other entries stay empty. The diagonal is empty too, so no item is its own neighbour.
An empty entry means zero, except for `pmi`, where it means −∞.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from recsys.config import Config
from recsys.cooccurrence.matrix import Cooccurrence, Marginals, RowBlock, make_csr

Floats = NDArray[np.float64]
Similarity = Literal["raw", "log1p", "sqrt", "cosine", "jaccard", "overlap", "conditional"]
Association = Literal["lift", "pmi", "ppmi", "shifted_ppmi", "lmi"]
WeightingName = Literal[Similarity, Association]


class WeightingConfig(Config):
    """How counts are weighted."""

    name: WeightingName = "cosine"
    """Formula, one of `WEIGHTINGS`."""

    shift: float = Field(default=5.0, ge=1)
    """k of `shifted_ppmi`, which subtracts log k: the number of negative samples of word2vec."""

    min_count: float = Field(default=0.0, ge=0)
    """Minimum support: entries with a lower count are removed."""

    shrinkage: float = Field(default=0.0, ge=0)
    """λ of the factor x/(x + λ), which shrinks weights from few users towards zero (Bell & Koren
    2007, "Improved neighborhood-based collaborative filtering", §4)."""


class Cells(NamedTuple):
    """The non-zero entries of X, with the occurrences of the items of their row and column."""

    x: Floats
    a: Floats
    b: Floats
    n: float
    shift: float


def raw(cells: Cells) -> Floats:
    """The counts, x."""
    return cells.x


def log1p(cells: Cells) -> Floats:
    """log(1 + x), which dampens large counts."""
    return np.log1p(cells.x)


def sqrt(cells: Cells) -> Floats:
    """√x, which stabilizes the variance of counts (Bartlett 1936)."""
    return np.sqrt(cells.x)


def cosine(cells: Cells) -> Floats:
    """Cosine of the sets or vectors of users, x / √(a b): Salton & McGill 1983; Ochiai 1957."""
    return cells.x / np.sqrt(cells.a * cells.b)


def jaccard(cells: Cells) -> Floats:
    """Jaccard index, x / (a + b − x): Jaccard 1901."""
    return cells.x / (cells.a + cells.b - cells.x)


def overlap(cells: Cells) -> Floats:
    """Overlap coefficient or inclusion index, x / min(a, b): Callon, Courtial & Laville 1991."""
    return cells.x / np.minimum(cells.a, cells.b)


def conditional(cells: Cells) -> Floats:
    """P(j | i) = x / a; not symmetric: Deshpande & Karypis 2004, "Item-based top-N", with α = 0."""
    return cells.x / cells.a


def lift(cells: Cells) -> Floats:
    """P(i, j) / (P(i) P(j)) = x N / (a b): Brin, Motwani, Ullman & Tsur 1997, as `interest`."""
    return cells.x * (cells.n / cells.a) / cells.b


def pmi(cells: Cells) -> Floats:
    """Pointwise mutual information in nats, log(x N / (a b)): Church & Hanks 1990.

    A stored zero means as often as by chance.
    """
    return np.log(lift(cells))


def ppmi(cells: Cells) -> Floats:
    """max(0, pmi), positive pointwise mutual information: Bullinaria & Levy 2007."""
    return np.maximum(pmi(cells), 0.0)


def shifted_ppmi(cells: Cells) -> Floats:
    """max(0, pmi − log k): Levy & Goldberg 2014, eq. 10.

    word2vec with k negative samples factorizes pmi − log k.
    """
    shifted: Floats = np.maximum(pmi(cells) - np.log(cells.shift), 0.0)
    return shifted


def lmi(cells: Cells) -> Floats:
    """Local mutual information in bits, x log₂(x N / (a b)).

    Evert 2005; called lexicographer's mutual information by Kilgarriff et al. 2004.
    """
    in_bits: Floats = cells.x * pmi(cells) / np.log(2.0)
    return in_bits


_SIMILARITIES = raw, log1p, sqrt, cosine, jaccard, overlap, conditional
_ASSOCIATIONS = lift, pmi, ppmi, shifted_ppmi, lmi
WEIGHTINGS: Mapping[str, Callable[[Cells], Floats]] = {
    formula.__name__: formula for formula in (*_SIMILARITIES, *_ASSOCIATIONS)
}
"""The formulas by name, as `WeightingConfig.name` has them."""


def weight(counts: Cooccurrence, config: WeightingConfig | None = None) -> sp.csr_array:
    """Weight the counts; by default with the cosine.

    Returns:
        float32, [n_items, n_items], columns ascending, zero where X is zero.

    Example:
        >>> import pandas as pd
        >>> from recsys import count_cooccurrence, read_ratings
        >>> ratings = pd.DataFrame({"user_id": [1, 1, 2, 2, 3, 4], "item_id": [7, 8, 7, 8, 7, 9]})
        >>> counts = count_cooccurrence(read_ratings(ratings))
        >>> weight(counts, WeightingConfig(name="lift")).toarray().tolist()  # 2 · 4 / (3 · 2)
        [[0.0, 1.3333333730697632, 0.0], [1.3333333730697632, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    block = RowBlock(0, counts.matrix)
    return weight_block(block, counts.marginals(), config or WeightingConfig()).matrix


def weight_block(block: RowBlock, marginals: Marginals, config: WeightingConfig) -> RowBlock:
    """Weight some rows of X; `marginals` are those of all items."""
    matrix = block.matrix
    supported = matrix.data >= config.min_count
    lengths = np.diff(matrix.indptr)
    x = matrix.data[supported].astype(np.float64)
    columns = matrix.indices[supported]
    rows = np.repeat(np.arange(block.start, block.stop), lengths)[supported]
    left, right = marginals.rows, marginals.columns
    if config.name in ("cosine", "jaccard") and marginals.squares is not None:
        left = right = marginals.squares
    a, b = left[rows], right[columns]
    weights = WEIGHTINGS[config.name](Cells(x, a, b, marginals.total, config.shift))
    if config.shrinkage:
        weights = weights * (x / (x + config.shrinkage))
    lengths = np.bincount(rows - block.start, minlength=len(lengths))
    offsets = np.concatenate([[0], lengths.cumsum()])
    weighted = make_csr(weights.astype(np.float32), columns, offsets, matrix.shape)
    if config.name in ("ppmi", "shifted_ppmi"):  # many zeros, the same as empty entries
        weighted.eliminate_zeros()
    return RowBlock(block.start, weighted)
