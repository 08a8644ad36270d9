"""Counts on disk in blocks of rows, for an X that does not fit into memory.

manifest.json       what was counted, the blocks, size and SHA-256 of every file
items.parquet       item ids in index order
marginals.npz       users of each item, sums of the rows and columns of X
weights.npz         sums of the weights of each item, if events have weights
rows-….npz          CSR arrays of consecutive rows, in the narrowest integer types that fit
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys import columns
from recsys.cluster import THIS_PROCESS, Workers, require_shared
from recsys.cooccurrence.config import Window
from recsys.cooccurrence.matrix import (
    Cooccurrence,
    CountMetadata,
    EventWeights,
    Marginals,
    RowBlock,
    make_csr,
)
from recsys.cooccurrence.planner import CountPlan
from recsys.cooccurrence.topk import keep_top_k
from recsys.cooccurrence.weightings import WeightingConfig, weight_block
from recsys.errors import BundleError, ConfigError
from recsys.storage import (
    MANIFEST,
    atomic_folder,
    read_arrays,
    read_json,
    verify_manifest,
    write_arrays,
    write_manifest,
)
from recsys.vocabulary import Vocabulary

FORMAT: Final = "recsys co-occurrence blocks, version 2"


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class CooccurrenceBlocks(CountMetadata):
    """Counts on disk. Iterating over them needs the memory of one block."""

    folder: Path
    parts: tuple[str, ...]
    """File names of the blocks, in order."""
    n_entries: int
    """Non-zero entries of X."""
    row_sums: NDArray[np.float64]
    """Σ_j X_ij, [n_items]."""
    column_sums: NDArray[np.float64]
    """Σ_i X_ij, [n_items]."""

    def __iter__(self) -> Iterator[RowBlock]:
        """The blocks of X, in order."""
        for block in self.integer_blocks():
            yield block.divided(self.divisor)

    def integer_blocks(self) -> Iterator[RowBlock]:
        """The blocks of X times its divisor, as they are stored."""
        for part in self.parts:
            arrays = read_arrays(self.folder / part, "start", "offsets", "columns", "counts")
            is_set = self.window is None and self.weights is None
            counts = arrays["counts"].astype(np.int32 if is_set else np.int64)
            offsets = arrays["offsets"]
            shape = (len(offsets) - 1, self.n_items)
            matrix = make_csr(counts, arrays["columns"].astype(np.int32), offsets, shape)
            yield RowBlock(int(arrays["start"]), matrix)

    def summary(self) -> dict[str, float]:
        """Size and density of X."""
        return self.size_metrics(self.n_entries)

    def marginals(self) -> Marginals:
        """How often each item occurs."""
        if self.window is None:
            return self.set_marginals()
        return Marginals(self.row_sums, self.column_sums, float(self.row_sums.sum()))

    def weighted(self, config: WeightingConfig | None = None) -> WeightedBlocks:
        """The blocks of the weighted X; each iteration reads and weights the counts again."""
        return WeightedBlocks(self, config or WeightingConfig())

    def neighbours(self, k: int, config: WeightingConfig | None = None) -> sp.csr_array:
        """The k largest weights of each row, float32, [n_items, n_items]."""
        largest = [keep_top_k(block.matrix, k) for block in self.weighted(config)]
        neighbours: sp.csr_array = sp.vstack(largest, format="csr")
        return neighbours

    def load(self) -> Cooccurrence:
        """Read all counts into memory."""
        matrix = stack_blocks(self, self.n_items, self.n_entries)
        return Cooccurrence(matrix=matrix, **self.metadata())


@dataclass(frozen=True, eq=False)
class WeightedBlocks:
    """Counts on disk, weighted as they are read."""

    counts: CooccurrenceBlocks
    config: WeightingConfig

    @property
    def items(self) -> Vocabulary:
        """The catalogue."""
        return self.counts.items

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return self.counts.n_items

    @property
    def n_entries(self) -> int:
        """Non-zero entries of X; some weightings leave fewer."""
        return self.counts.n_entries

    def __iter__(self) -> Iterator[RowBlock]:
        """The blocks of the weighted X, in order."""
        marginals = self.counts.marginals()
        for block in self.counts:
            yield weight_block(block, marginals, self.config)


def stack_blocks(blocks: Iterable[RowBlock], n_items: int, max_entries: int) -> sp.csr_array:
    """All rows in one matrix, which is filled block by block: X is never in memory twice."""
    offsets, columns = np.zeros(n_items + 1, np.int64), np.empty(max_entries, np.int32)
    values: NDArray[Any] = np.empty(0)
    for block in blocks:
        matrix = block.matrix
        values = values if block.start else np.empty(max_entries, matrix.dtype)
        ends = offsets[block.start] + matrix.indptr.astype(np.int64)
        offsets[block.start : block.stop + 1] = ends
        columns[ends[0] : ends[-1]] = matrix.indices
        values[ends[0] : ends[-1]] = matrix.data
    n_entries = offsets[-1]
    return make_csr(values[:n_entries], columns[:n_entries], offsets, (n_items, n_items))


class WrittenBlock(NamedTuple):
    """A block on disk, with sums in the integer type of the counts, [n_rows] and [n_items]."""

    name: str
    start: int
    row_sums: NDArray[Any]
    column_sums: NDArray[Any]
    n_entries: int


def write_blocks(
    folder: Path, plan: CountPlan, workers: Workers = THIS_PROCESS
) -> CooccurrenceBlocks:
    """Count row blocks and write each to the folder; an existing folder is replaced."""
    with atomic_folder(folder) as tmp_path:
        if workers is THIS_PROCESS:
            blocks = plan.map_blocks(lambda block: write_block(tmp_path, block))
        else:
            blocks = workers.map(_count_and_write, plan.blocks(), plan, tmp_path)
        finalize_blocks(tmp_path, blocks, plan.metadata)
    return open_blocks(folder, verify=False)


def _count_and_write(rows: tuple[int, int], plan: CountPlan, folder: Path) -> WrittenBlock:
    require_shared(folder)
    return write_block(folder, plan.count_block(*rows))


def save_cooccurrence(counts: Cooccurrence, folder: Path) -> CooccurrenceBlocks:
    """Write counts that are in memory, as one block; replaces an existing folder.

    Raises:
        ConfigError: the counts are decayed or weighted, and therefore not whole numbers.
    """
    if counts.divisor != 1:
        raise ConfigError(
            "decayed or weighted counts cannot be saved from memory: count them with folder=... "
            "instead"
        )
    with atomic_folder(folder) as tmp_path:
        block = write_block(tmp_path, RowBlock(0, counts.matrix))
        finalize_blocks(tmp_path, [block], counts)
    return open_blocks(folder, verify=False)


def write_block(folder: Path, block: RowBlock) -> WrittenBlock:
    """Write one block of integers, not yet scaled."""
    matrix = block.matrix
    name = f"rows-{block.start:010d}.npz"
    write_arrays(
        folder / name,
        start=np.array(block.start),
        offsets=matrix.indptr.astype(np.int64),
        columns=matrix.indices.astype(np.min_scalar_type(matrix.shape[1] - 1)),
        counts=matrix.data.astype(np.min_scalar_type(matrix.data.max(initial=0))),
    )
    return WrittenBlock(name, block.start, matrix.sum(axis=1), matrix.sum(axis=0), matrix.nnz)


def finalize_blocks(folder: Path, blocks: Iterable[WrittenBlock], metadata: CountMetadata) -> None:
    """Write the sums, the item ids and the manifest of a folder of blocks, given in order."""
    row_sums, column_sums = np.zeros(metadata.n_items), np.zeros(metadata.n_items)
    parts, n_entries = [], 0
    for block in blocks:
        parts.append(block.name)
        row_sums[block.start : block.start + len(block.row_sums)] = block.row_sums
        column_sums += block.column_sums
        n_entries += block.n_entries
    write_arrays(
        folder / "marginals.npz",
        item_counts=metadata.item_counts,
        row_sums=row_sums / metadata.divisor,
        column_sums=column_sums / metadata.divisor,
    )
    if metadata.weights is not None:
        write_arrays(folder / "weights.npz", **metadata.weights._asdict())
    ids = pd.DataFrame({columns.ITEM_ID: metadata.items.ids})
    ids.to_parquet(folder / "items.parquet", index=False)
    write_manifest(
        folder,
        format=FORMAT,
        parts=parts,
        n_entries=n_entries,
        n_users=metadata.n_users,
        min_rating=metadata.min_rating,
        window=None if metadata.window is None else metadata.window.model_dump(),
    )


def open_blocks(folder: Path | str, *, verify: bool = True) -> CooccurrenceBlocks:
    """Open counts that `count_cooccurrence` wrote to a folder.

    Unless `verify` is false, every file is first checked against its SHA-256.

    Raises:
        BundleError: the folder does not contain counts, or a file is missing or damaged.
    """
    folder = Path(folder)
    manifest = verify_manifest(folder) if verify else read_json(folder / MANIFEST)
    if manifest.get("format") != FORMAT:
        found = manifest.get("format", "an unknown format")
        raise BundleError(f"{folder} contains {found!r}, not {FORMAT!r}")
    ids = pd.read_parquet(folder / "items.parquet")[columns.ITEM_ID]
    window = manifest["window"]
    weights = None
    if "weights.npz" in manifest["files"]:
        arrays = read_arrays(folder / "weights.npz")
        weights = EventWeights(int(arrays["per_unit"]), arrays["sums"], arrays["squares"])
    return CooccurrenceBlocks(
        folder=folder,
        parts=tuple(manifest["parts"]),
        n_entries=manifest["n_entries"],
        n_users=manifest["n_users"],
        min_rating=manifest["min_rating"],
        items=Vocabulary(ids.to_numpy()),
        window=None if window is None else Window(**window),
        weights=weights,
        **read_arrays(folder / "marginals.npz"),
    )
