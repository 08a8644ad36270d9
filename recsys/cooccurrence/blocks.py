"""Counts on disk, row block by row block, for where X does not fit the memory.

manifest.json       what was counted, the blocks, size and SHA-256 of every file
items.parquet       the ids of the items, in index order
marginals.npz       users of each item, sums of the rows and columns of X
rows-….npz          CSR arrays of consecutive rows, in the narrowest integers that hold them
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys import columns
from recsys.cooccurrence.config import Window
from recsys.cooccurrence.counts import Cooccurrence, Marginals, set_marginals
from recsys.cooccurrence.rows import RowBlock, csr_of
from recsys.cooccurrence.topk import keep_top_k
from recsys.cooccurrence.weightings import WeightingConfig, weight_block
from recsys.errors import BundleError
from recsys.storage import MANIFEST, read_arrays, read_json, verify_manifest
from recsys.vocabulary import Vocabulary

FORMAT: Final = "recsys co-occurrence blocks, version 1"


@dataclass(frozen=True, eq=False)
class CooccurrenceBlocks:
    """Counts that lie on disk; to go over them takes the memory of one block."""

    folder: Path
    parts: tuple[str, ...]
    """The files of the blocks, in order."""
    n_entries: int
    """Non-zero entries of X."""
    item_counts: NDArray[np.int64]
    """How many users liked each item, or the sum of their weights, [n_items]."""
    row_sums: NDArray[np.float64]
    """Σ_j X_ij, [n_items]."""
    column_sums: NDArray[np.float64]
    """Σ_i X_ij, [n_items]."""
    n_users: int
    min_rating: float | None
    items: Vocabulary
    window: Window | None
    is_weighted: bool
    unit: float
    """What a stored count of one stands for."""

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return len(self.items)

    def __iter__(self) -> Iterator[RowBlock]:
        """The blocks of X, in order; together they are the matrix of `Cooccurrence`."""
        for part in self.parts:
            yield self._read(part)

    def marginals(self) -> Marginals:
        """How often each item occurs at all."""
        if self.window is None:
            return set_marginals(self.item_counts, self.n_users)
        return Marginals(self.row_sums, self.column_sums, float(self.row_sums.sum()))

    def weighted(self, config: WeightingConfig | None = None) -> WeightedBlocks:
        """The blocks of the weighted X, in order; read and weighted anew for every pass."""
        return WeightedBlocks(self, config or WeightingConfig())

    def neighbours(self, k: int, config: WeightingConfig | None = None) -> sp.csr_array:
        """The k largest weights of each row, float32, [n_items, n_items]."""
        kept = [keep_top_k(block.matrix, k) for block in self.weighted(config)]
        neighbours: sp.csr_array = sp.vstack(kept, format="csr")
        return neighbours

    def load(self) -> Cooccurrence:
        """All counts, in memory."""
        matrix = sp.vstack([block.matrix for block in self], format="csr")
        return Cooccurrence(
            matrix=matrix,
            item_counts=self.item_counts,
            n_users=self.n_users,
            min_rating=self.min_rating,
            items=self.items,
            window=self.window,
            is_weighted=self.is_weighted,
        )

    def _read(self, part: str) -> RowBlock:
        arrays = read_arrays(self.folder / part)
        exact = np.int32 if self.window is None and not self.is_weighted else np.int64
        counts, offsets = arrays["counts"].astype(exact), arrays["offsets"]
        shape = (len(offsets) - 1, self.n_items)
        matrix = csr_of(counts, arrays["columns"].astype(np.int32), offsets, shape)
        block = RowBlock(int(arrays["start"]), matrix)
        return block.scaled(self.unit)


@dataclass(frozen=True, eq=False)
class WeightedBlocks:
    """Counts that lie on disk, seen through a weighting."""

    counts: CooccurrenceBlocks
    config: WeightingConfig

    @property
    def items(self) -> Vocabulary:
        """The catalogue."""
        return self.counts.items

    def __iter__(self) -> Iterator[RowBlock]:
        """The blocks of the weighted X, in order."""
        marginals = self.counts.marginals()
        for block in self.counts:
            yield weight_block(block, marginals, self.config)


def open_blocks(folder: Path | str, *, verify: bool = True) -> CooccurrenceBlocks:
    """Open counts that `count_cooccurrence` wrote to a folder.

    Args:
        folder: where they are.
        verify: check every file against its SHA-256 first.

    Raises:
        BundleError: the folder holds no counts, or a file is missing or damaged.
    """
    folder = Path(folder)
    manifest = verify_manifest(folder) if verify else read_json(folder / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise BundleError(
            f"{folder} holds {manifest.get('format', 'something else')!r}, not {FORMAT!r}"
        )
    marginals = read_arrays(folder / "marginals.npz")
    ids = pd.read_parquet(folder / "items.parquet")[columns.ITEM_ID]
    window = manifest["window"]
    return CooccurrenceBlocks(
        folder=folder,
        parts=tuple(manifest["parts"]),
        n_entries=manifest["n_entries"],
        item_counts=marginals["item_counts"],
        row_sums=marginals["row_sums"],
        column_sums=marginals["column_sums"],
        n_users=manifest["n_users"],
        min_rating=manifest["min_rating"],
        items=Vocabulary(ids.to_numpy()),
        window=None if window is None else Window(**window),
        is_weighted=manifest["is_weighted"],
        unit=manifest["unit"],
    )
