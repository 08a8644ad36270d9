"""The watches of every user, where a bundle is to answer for users by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys.sessions import NumpySessionModel
from recsys.storage import read_arrays
from recsys.vocabulary import Vocabulary

if TYPE_CHECKING:
    from recsys.data import Interactions

_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Histories:
    """Who watched what, oldest first, and what the session model expects after it."""

    users: Vocabulary
    offsets: NDArray[np.int64]
    """User u's watches are `offsets[u]` to `offsets[u + 1]`, [n_users + 1]."""
    item_index: NDArray[np.int32]
    """The items, user after user, [n]."""
    expected: NDArray[np.float32]
    """The point among the session model's item vectors where each user's next item is expected,
    so that nobody's history need be gone through again, [n_users, D]; zero for those who have
    watched nothing."""

    @classmethod
    def of(cls, interactions: Interactions, model: NumpySessionModel) -> Histories:
        """All watches of all users; the model goes through each history once."""
        expected_UD = np.zeros(
            (interactions.n_users, model.item_embeddings_ND.shape[1]), np.float32
        )
        users = np.flatnonzero(interactions.history_lengths > 0)
        by_length = users[np.argsort(interactions.history_lengths[users], kind="stable")]
        for start in range(0, len(by_length), _AT_ONCE):
            some = by_length[start : start + _AT_ONCE]
            expected_UD[some] = model.encode_batch([interactions.history(u) for u in some])
        return cls(
            interactions.users, interactions.user_offsets, interactions.item_index, expected_UD
        )

    def history(self, user: int) -> NDArray[np.int32]:
        """The items of the user at this position, oldest first, [length]."""
        return self.item_index[self.offsets[user] : self.offsets[user + 1]]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What to store, by name; user ids are numbers or text of fixed width."""
        ids = self.users.ids
        return {
            "users": ids if ids.dtype == np.int64 else ids.astype(np.str_),
            "offsets": self.offsets,
            "item_index": self.item_index,
            "expected": self.expected,
        }

    @classmethod
    def read(cls, path: Path) -> Histories:
        """Read what `arrays` was stored as.

        Raises:
            KeyError: an array is missing.
        """
        stored = read_arrays(path)
        ids = stored["users"]
        return cls(
            Vocabulary(ids if ids.dtype == np.int64 else ids.astype(object)),
            stored["offsets"],
            stored["item_index"],
            stored["expected"],
        )
