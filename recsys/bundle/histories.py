"""The latest watches of every user, where a bundle is to answer for users by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys import columns
from recsys.vocabulary import ID, Vocabulary

if TYPE_CHECKING:
    from recsys.data import Interactions

_WATCHED = "item_index"


@dataclass(frozen=True, eq=False)
class Histories:
    """Who watched what, oldest first."""

    users: Vocabulary
    offsets: NDArray[np.int64]
    """User u's watches are `offsets[u]` to `offsets[u + 1]`, [n_users + 1]."""
    item_index: NDArray[np.int32]
    """The items, user after user, [n]."""

    @classmethod
    def of(cls, interactions: Interactions) -> Histories:
        """All watches of all users."""
        return cls(interactions.users, interactions.user_offsets, interactions.item_index)

    def of_user(self, user_id: ID) -> NDArray[np.int32]:
        """The items of a user, oldest first, [length].

        Raises:
            KeyError: there is no such user.
        """
        user = self.users.index(user_id)
        return self.item_index[self.offsets[user] : self.offsets[user + 1]]

    def write(self, path: Path) -> None:
        """Write as Parquet: a row for each user."""
        watched = pa.LargeListArray.from_arrays(self.offsets, self.item_index)
        table = pa.table({columns.USER_ID: pa.array(self.users.ids), _WATCHED: watched})
        pq.write_table(table, path)

    @classmethod
    def read(cls, path: Path) -> Histories:
        """Read what `write` wrote."""
        table = pq.read_table(path).combine_chunks()
        watched = table[_WATCHED].combine_chunks()
        return cls(
            Vocabulary(np.array(table[columns.USER_ID].to_pandas())),
            np.array(watched.offsets),
            np.array(watched.values).astype(np.int32),
        )
