"""What embeddings can be fitted to: counts, weightings of them, bare matrices; in memory or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import scipy.sparse as sp

from recsys.cooccurrence import Cooccurrence, CooccurrenceBlocks, WeightedBlocks
from recsys.embeddings.matrices import Source
from recsys.vocabulary import Vocabulary

Counts = Cooccurrence | CooccurrenceBlocks | WeightedBlocks | Source


@dataclass(frozen=True)
class _OnDisk:
    """Blocks of counts as an objective reads them, from the first row on whenever it does."""

    blocks: CooccurrenceBlocks | WeightedBlocks

    def __iter__(self) -> Iterator[tuple[int, sp.csr_array]]:
        for block in self.blocks:
            yield block.start, block.matrix


def source_of(counts: Counts) -> Source:
    """X alone."""
    if isinstance(counts, Cooccurrence):
        return counts.matrix
    return _OnDisk(counts) if isinstance(counts, CooccurrenceBlocks | WeightedBlocks) else counts


def items_of(counts: Counts, items: Vocabulary | None) -> Vocabulary | None:
    """What the rows of X are, where that is known: counts know it, bare matrices are told."""
    if isinstance(counts, Cooccurrence | CooccurrenceBlocks | WeightedBlocks):
        return counts.items
    return items
