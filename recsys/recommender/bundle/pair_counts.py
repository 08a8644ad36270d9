"""How many users liked both of two items, as far as a bundle keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys.storage import read_arrays

if TYPE_CHECKING:
    from recsys.cooccurrence import Cooccurrence

N_PARTNERS = 256
"""How many partners of each item are kept, those with the largest counts."""


@dataclass(frozen=True, eq=False)
class PairCounts:
    """The largest counts of each item, row by row."""

    offsets: NDArray[np.int64]
    """Item i's row is `offsets[i]` to `offsets[i + 1]`, [n_items + 1]."""
    partners: NDArray[np.int32]
    """The other item, ascending within a row, [n]."""
    counts: NDArray[np.int32]
    """How many users liked both, [n]."""
    is_whole: NDArray[np.bool_]
    """Whether an item's row holds all of its partners, [n_items]."""
    item_counts: NDArray[np.int32]
    """How many users liked each item, [n_items]."""

    @classmethod
    def of(cls, counts: Cooccurrence) -> PairCounts | None:
        """The largest counts; None where counts are not numbers of users (windows, weights)."""
        if counts.window is not None or counts.is_weighted:
            return None
        from recsys.cooccurrence import keep_top_k

        largest = keep_top_k(counts.matrix, N_PARTNERS)
        return cls(
            offsets=largest.indptr.astype(np.int64),
            partners=largest.indices.astype(np.int32),
            counts=largest.data.astype(np.int32),
            is_whole=np.diff(counts.matrix.indptr) == np.diff(largest.indptr),
            item_counts=counts.item_counts.astype(np.int64),
        )

    def both(self, a: int, b: int) -> int | None:
        """How many users liked both; None where the pair is beyond what was kept of either."""
        for one, other in ((a, b), (b, a)):
            start, stop = self.offsets[one], self.offsets[one + 1]
            at = start + np.searchsorted(self.partners[start:stop], other)
            if at < stop and self.partners[at] == other:
                return int(self.counts[at])
        return 0 if self.is_whole[a] or self.is_whole[b] else None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What to store, by name."""
        return dict(vars(self))

    @classmethod
    def read(cls, path: Path) -> PairCounts:
        """Read what `arrays` was stored as.

        Raises:
            TypeError: an array is missing, or there is one too many.
        """
        return cls(**read_arrays(path))
