"""Who liked what: the likes of a log, by user and by item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.data import Interactions
from recsys.errors import DataError


class Lists(NamedTuple):
    """Lists of indices one after the other: list r is `values[offsets[r]:offsets[r + 1]]`."""

    offsets: NDArray[np.int64]
    values: NDArray[np.int32]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """How long each list is."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class Positives:
    """The user × item matrix of likes, ones and zeros; both lists ascend, nothing twice."""

    by_user: Lists
    """The items that each user liked."""
    by_item: Lists
    """The users who liked each item."""

    @property
    def n_users(self) -> int:
        """Number of users, those who liked nothing included."""
        return len(self.by_user.offsets) - 1

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return len(self.by_item.offsets) - 1

    def __len__(self) -> int:
        return len(self.by_user.values)


@dataclass(frozen=True)
class Likes:
    """The rows that count, in the order of watching."""

    histories: Lists
    """The items of each user, oldest first; an item may be there more than once."""
    timestamp: NDArray[np.int64] | None
    """When each was watched, in seconds, [n]."""
    n_items: int

    @property
    def n_users(self) -> int:
        """Number of users, those who liked nothing included."""
        return len(self.histories.offsets) - 1

    def positives(self, threads: int = 1, place: NDArray[np.int32] | None = None) -> Positives:
        """Each user's items as a set: an item that a user has in several rows counts once.

        Args:
            threads: how many to sort with.
            place: a new number for each item, [n_items]; None leaves them as they are.
        """
        from recsys.cooccurrence.sorting import sort_sets, transpose

        if place is None:
            place = np.arange(self.n_items, dtype=np.int32)
        by_user = sort_sets(self.histories, place, threads)
        return Positives(by_user=by_user, by_item=transpose(by_user, self.n_items, threads))


def likes_of(interactions: Interactions, min_rating: float | None) -> Likes:
    """The rows of a log that count.

    Args:
        interactions: who rated what.
        min_rating: the lowest rating that counts; None counts every row, as does data without
            ratings.

    Raises:
        DataError: there is no row, or no rating reaches `min_rating`.
    """
    if not len(interactions):
        raise DataError("there are no interactions to count")
    offsets, items = interactions.user_offsets, interactions.item_index
    timestamp = interactions.timestamp
    if min_rating is not None and interactions.rating is not None:
        mask = interactions.rating >= min_rating
        if not mask.any():
            raise DataError(
                f"no rating is {min_rating} or higher (the highest is "
                f"{interactions.rating.max():g}); lower min_rating"
            )
        # Only what is needed: a copy of all columns would double the memory.
        offsets = np.concatenate([[0], np.cumsum(mask)])[offsets]
        items = items[mask]
        timestamp = None if timestamp is None else timestamp[mask]
    return Likes(Lists(offsets, items), timestamp, interactions.n_items)
