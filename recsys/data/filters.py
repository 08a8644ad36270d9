"""Filters: fewer ratings, and an account of what went. Filter first, then split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.data.interactions import Interactions
from recsys.data.timestamps import TimestampLike, require_timestamps, time_range, to_unix
from recsys.errors import DataError


class Size(NamedTuple):
    """How much there is."""

    rows: int
    users: int
    items: int

    @classmethod
    def of(cls, interactions: Interactions) -> Size:
        """Rows, users and items, those without any row included."""
        return cls(len(interactions), interactions.n_users, interactions.n_items)


@dataclass(frozen=True)
class FilterReport:
    """What a filter removed.

    Example:
        >>> print(FilterReport("k_core(min_user_interactions=5, min_item_interactions=5)", Size(2000, 40, 90),
        ...                    Size(1500, 40, 30), rounds=2))
        k_core(min_user_interactions=5, min_item_interactions=5) removed 500 of 2,000 rows (25.0%), 0 of 40 users, 60 of 90 items in 2 rounds
    """  # noqa: E501

    name: str
    """The filter, as it was called."""
    before: Size
    after: Size
    rounds: int = 1
    """How often rows were removed until nothing changed."""

    @property
    def removed(self) -> Size:
        """What is there no more."""
        return Size(*(old - new for old, new in zip(self.before, self.after, strict=True)))

    def metrics(self) -> dict[str, float]:
        """What was removed, by name, for a run's record."""
        name = self.name.partition("(")[0]
        return {f"{name}_removed_{what}": float(n) for what, n in self.removed._asdict().items()}

    def __str__(self) -> str:
        gone = [
            f"{gone:,} of {before:,} {name}"
            for name, gone, before in zip(Size._fields, self.removed, self.before, strict=True)
        ]
        gone[0] += f" ({self.removed.rows / self.before.rows:.1%})"
        rounds = f" in {self.rounds} rounds" if self.rounds > 1 else ""
        return f"{self.name} removed {', '.join(gone)}{rounds}"


def k_core(
    interactions: Interactions, min_user_interactions: int = 5, min_item_interactions: int = 5
) -> tuple[Interactions, FilterReport]:
    """Keep users of at least `min_user_interactions` watches and items of at least `min_item_interactions`.

    Users who lose watches with an item may fall below their minimum, and so on: rows are
    removed until every user and every item that is left has its minimum. What is left is the
    largest part of the log for which that holds (Seidman 1983, "Network structure and minimum
    degree", for the bipartite graph of users and items).

    Args:
        interactions: who watched what.
        min_user_interactions: the fewest watches of a user; one or less asks nothing.
        min_item_interactions: the fewest watches of an item; one or less asks nothing.

    Returns:
        What is left, without the users and items that went, and what was removed.

    Raises:
        DataError: nothing is left.

    Example:
        >>> import pandas as pd
        >>> from recsys.data.reading.read import read_ratings
        >>> log = pd.DataFrame({"user_id": [1, 1, 2, 2, 2, 3], "item_id": [7, 8, 7, 8, 9, 9]})
        >>> few, report = k_core(read_ratings(log), min_user_interactions=2, min_item_interactions=2)
        >>> few.users.ids.tolist(), few.items.ids.tolist()
        ([1, 2], [7, 8])
        >>> print(report)
        k_core(min_user_interactions=2, min_item_interactions=2) removed 2 of 6 rows (33.3%), 1 of 3 users, 1 of 3 items in 2 rounds
    """  # noqa: E501
    kept, rounds = _core(
        interactions.user_index,
        interactions.item_index,
        min_user_interactions,
        min_item_interactions,
    )
    name = (
        f"k_core(min_user_interactions={min_user_interactions}, "
        f"min_item_interactions={min_item_interactions})"
    )
    return _filtered(
        interactions, kept, name, "lower min_user_interactions or min_item_interactions", rounds
    )


def _core(
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    min_user_interactions: int,
    min_item_interactions: int,
) -> tuple[NDArray[np.bool_], int]:
    """Which rows are in the core, [n], and after how many rounds of removal."""
    kept = np.ones(len(users), dtype=np.bool_)
    rounds = 0
    while True:
        stays = (np.bincount(users) >= min_user_interactions)[users] & (
            np.bincount(items) >= min_item_interactions
        )[items]
        if stays.all():
            return kept, rounds
        kept[kept] = stays
        users, items = users[stays], items[stays]
        rounds += 1


def min_rating(interactions: Interactions, min_rating: float) -> tuple[Interactions, FilterReport]:
    """Keep ratings of `min_rating` or more.

    Returns:
        What is left, without the users and items that went, and what was removed.

    Raises:
        DataError: there are no ratings, or none reaches `min_rating`.

    Example:
        >>> import pandas as pd
        >>> from recsys.data.reading.read import read_ratings
        >>> log = pd.DataFrame({"user_id": [1, 1, 2], "item_id": [7, 8, 9], "rating": [4, 5, 1]})
        >>> _, report = min_rating(read_ratings(log), 4)
        >>> print(report)
        min_rating(4) removed 1 of 3 rows (33.3%), 1 of 2 users, 1 of 3 items
    """
    rating = interactions.rating
    if rating is None:
        raise DataError("min_rating needs ratings: the data has no column 'rating'")
    remedy = f"lower min_rating (the highest rating is {rating.max(initial=0):g})"
    name = f"min_rating({min_rating:g})"
    return _filtered(interactions, rating >= min_rating, name, remedy)


def time_window(
    interactions: Interactions, start: TimestampLike | None = None, end: TimestampLike | None = None
) -> tuple[Interactions, FilterReport]:
    """Keep watches from `start` on and before `end`; None sets no limit.

    Returns:
        What is left, without the users and items that went, and what was removed.

    Raises:
        ConfigError: a moment cannot be read.
        DataError: there are no times, or nothing was watched in that window.

    Example:
        >>> import pandas as pd
        >>> from recsys.data.reading.read import read_ratings
        >>> log = pd.DataFrame({"user_id": [1, 1], "item_id": [7, 8], "timestamp": [86399, 86400]})
        >>> few, report = time_window(read_ratings(log), start="1970-01-02")
        >>> few.items.ids.tolist()
        [8]
        >>> print(report)
        time_window(from 1970-01-02) removed 1 of 2 rows (50.0%), 0 of 1 users, 1 of 2 items
    """
    timestamp = require_timestamps(interactions, "time_window")
    kept = np.ones(len(interactions), dtype=np.bool_)
    limits = []
    if start is not None:
        kept &= timestamp >= to_unix(start)
        limits.append(f"from {start}")
    if end is not None:
        kept &= timestamp < to_unix(end)
        limits.append(f"before {end}")
    remedy = f"widen it (the times are {time_range(timestamp)})"
    return _filtered(interactions, kept, f"time_window({', '.join(limits)})", remedy)


def _filtered(
    interactions: Interactions, kept: NDArray[np.bool_], name: str, remedy: str, rounds: int = 1
) -> tuple[Interactions, FilterReport]:
    if not kept.any():
        raise DataError(f"{name} removed all {len(interactions):,} rows: {remedy}")
    left = interactions.filter(kept).compact()
    return left, FilterReport(name, Size.of(interactions), Size.of(left), rounds)
