"""Mapping between external ids and dense indices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.forks import lazy

ID = int | str


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The distinct external ids of users or items; the position of an id is its dense index.

    Ids are either all integers or all strings.

    Example:
        >>> items = Vocabulary.of([586, 1, 150, 1])
        >>> items.ids.tolist()
        [1, 150, 586]
        >>> items.index(586)
        2
        >>> items.indices([150, 7]).tolist()  # 7 is unknown
        [1, -1]
    """

    ids: NDArray[Any]
    """Sorted ids, [n], as int64 or str objects."""

    def __post_init__(self) -> None:
        ids = self.ids.copy()
        ids.setflags(write=False)
        object.__setattr__(self, "ids", ids)
        is_sorted = (ids[1:] > ids[:-1]).all()  # faster than an index of all ids
        if not is_sorted and len(self._index) != len(ids):
            raise ValueError(f"{len(ids) - len(self._index)} ids occur more than once")

    @lazy
    def _index(self) -> dict[ID, int]:
        return {external: position for position, external in enumerate(self.ids.tolist())}

    @classmethod
    def of(cls, ids: Iterable[ID]) -> Vocabulary:
        """Create the vocabulary of all distinct `ids`."""
        distinct = sorted(set(ids))  # all int or all str
        dtype = np.int64 if distinct and isinstance(distinct[0], int) else object
        return cls(np.array(distinct, dtype=dtype))

    def __len__(self) -> int:
        return len(self.ids)

    def __str__(self) -> str:
        examples = ", ".join(str(external) for external in self.ids[:3].tolist())
        return f"{len(self):,} ids" + (f" such as {examples}" if examples else "")

    def __repr__(self) -> str:
        return f"<Vocabulary of {self}>"

    def __contains__(self, external: object) -> bool:
        return external in self._index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and np.array_equal(self.ids, other.ids)

    def __hash__(self) -> int:
        return hash((len(self.ids), *self.ids[:1].tolist(), *self.ids[-1:].tolist()))

    def index(self, external: ID) -> int:
        """Return the dense index of an id.

        Raises:
            KeyError: The id is not in the vocabulary.
        """
        return self._index[external]

    def indices(self, externals: Sequence[ID] | NDArray[Any]) -> NDArray[np.int32]:
        """Return the dense indices of some ids, [n]; -1 for unknown ids."""
        ids = externals.tolist() if isinstance(externals, np.ndarray) else externals
        return np.array([self._index.get(external, -1) for external in ids], dtype=np.int32)
