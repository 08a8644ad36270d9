"""Interactions: the one form in which ratings flow through the library."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Interactions:
    """Who watched (and perhaps rated) what, in the order it was watched.

    Rows are sorted by (user, timestamp, input order), so that one user's history is a slice.
    """

    user_index: NDArray[np.int32]
    """Dense user index of each row, [n]."""
    item_index: NDArray[np.int32]
    """Dense item index of each row, [n]."""
    rating: NDArray[np.float32] | None
    """Rating of each row, [n]; None where the data has none."""
    timestamp: NDArray[np.int64] | None
    """Seconds since 1970, UTC, [n]; None where rows came in order but without times."""
    user_offsets: NDArray[np.int64]
    """User u's rows are `user_offsets[u]` to `user_offsets[u + 1]`, [n_users + 1]."""
    users: Vocabulary
    items: Vocabulary
    catalogue: pd.DataFrame
    """One row per item, in index order: `item_id`, `title` and whatever else is known."""

    def __len__(self) -> int:
        return len(self.item_index)

    @property
    def n_users(self) -> int:
        """Number of users, those without any row included."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return len(self.items)

    @property
    def history_lengths(self) -> NDArray[np.int64]:
        """Number of rows of each user, [n_users]."""
        return np.diff(self.user_offsets)

    def history(self, user: int) -> NDArray[np.int32]:
        """The items of the user with this index, oldest first, [length]."""
        return self.item_index[self.user_offsets[user] : self.user_offsets[user + 1]]

    def filter(self, mask: NDArray[np.bool_]) -> Interactions:
        """Only the rows where `mask` ([n]) is true; vocabularies and catalogue stay whole."""
        lengths = np.bincount(self.user_index[mask], minlength=self.n_users)
        return replace(
            self,
            user_index=self.user_index[mask],
            item_index=self.item_index[mask],
            rating=None if self.rating is None else self.rating[mask],
            timestamp=None if self.timestamp is None else self.timestamp[mask],
            user_offsets=offsets_of(lengths),
        )

    def compact(self) -> Interactions:
        """Without the users and items that have no row; those left keep their ids.

        Example:
            >>> from recsys.data.reading.read import read_ratings
            >>> log = pd.DataFrame({"user_id": [1, 2, 2], "item_id": [10, 20, 30]})
            >>> whole = read_ratings(log, on_report=lambda report: None)
            >>> few = whole.filter(np.array([False, False, True])).compact()
            >>> few.users.ids.tolist(), few.items.ids.tolist(), few.item_index.tolist()
            ([2], [30], [0])
        """
        has_user = self.history_lengths > 0
        has_item = np.bincount(self.item_index, minlength=self.n_items) > 0
        return replace(
            self,
            user_index=_ranks(has_user)[self.user_index],
            item_index=_ranks(has_item)[self.item_index],
            user_offsets=offsets_of(self.history_lengths[has_user]),
            users=Vocabulary(self.users.ids[has_user]),
            items=Vocabulary(self.items.ids[has_item]),
            catalogue=self.catalogue.loc[has_item].reset_index(drop=True),
        )

    def user_item_matrix(self) -> sp.csr_array:
        """One where a user has an item, else zero: int32, [n_users, n_items]."""
        ones = np.ones(len(self), dtype=np.int32)
        shape = (self.n_users, self.n_items)
        # A copy: scipy sorts the columns of a row in place, and histories are in their order.
        items = self.item_index.copy()
        matrix = sp.csr_array((ones, items, self.user_offsets), shape=shape)
        matrix.sum_duplicates()
        matrix.data[:] = 1
        return matrix

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of ids, order, ratings and times: equal data, equal digest."""
        sha = hashlib.sha256()
        for part in (self.user_index, self.item_index, self.rating, self.timestamp):
            sha.update(b"-" if part is None else np.ascontiguousarray(part).tobytes())
        for vocabulary in (self.users, self.items):
            sha.update(repr(vocabulary.ids.tolist()).encode())
        return sha.hexdigest()


def _ranks(kept: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The place of each kept position among those kept, [n]."""
    return np.cumsum(kept, dtype=np.int32) - np.int32(1)


def offsets_of(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Where each slice of the given length begins, and the end of the last, [n + 1]."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
