"""Filters to apply before a split; each also drops users and items that have no rows left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.arguments import require_type, to_int, to_number
from recsys.data.catalogue import require_catalogue_size
from recsys.data.interactions import Interactions, TimestampLike, format_time_range, to_unix
from recsys.errors import DataError


class Shape(NamedTuple):
    """Number of rows, users and items."""

    rows: int
    users: int
    items: int


@dataclass(frozen=True)
class FilterReport:
    """What a filter removed."""

    name: str
    """The filter with its arguments."""
    before: Shape
    after: Shape
    rounds: int = 1
    """Number of passes over the rows until nothing changed."""

    @property
    def removed(self) -> Shape:
        """Number of rows, users and items that were removed."""
        return Shape(*(old - new for old, new in zip(self.before, self.after, strict=True)))

    def metrics(self) -> dict[str, float]:
        """Metrics for tracking, such as `k_core_removed_rows`."""
        name = self.name.partition("(")[0]
        return {f"{name}_removed_{unit}": float(n) for unit, n in self.removed._asdict().items()}

    def __str__(self) -> str:
        counts = [
            f"{removed:,} of {before:,} {unit}"
            for unit, removed, before in zip(Shape._fields, self.removed, self.before, strict=True)
        ]
        counts[0] += f" ({self.removed.rows / self.before.rows:.1%})"
        rounds = f" in {self.rounds} rounds" if self.rounds > 1 else ""
        return f"{self.name} removed {', '.join(counts)}{rounds}"


def k_core(
    interactions: Interactions, min_user_interactions: int = 5, min_item_interactions: int = 5
) -> tuple[Interactions, FilterReport]:
    """Keep users and items that have a minimum number of interactions with each other.

    Rows are removed until every remaining user and item has its minimum (Seidman 1983, "Network
    structure and minimum degree"). A minimum of 1 has no effect. Only rows that form histories are
    counted.

    Raises:
        ConfigError: A minimum is not an integer of 1 or more.
        DataError: Nothing is left.

    Example:
        >>> import pandas as pd
        >>> from recsys.data import read_ratings
        >>> table = pd.DataFrame({"user_id": [1, 1, 2, 2, 2, 3], "item_id": [7, 8, 7, 8, 9, 9]})
        >>> core, report = k_core(read_ratings(table), 2, 2)
        >>> core.users.ids.tolist(), core.items.ids.tolist(), report.removed.rows, report.rounds
        ([1, 2], [7, 8], 2, 2)
    """
    require_type(interactions, Interactions, "read_ratings")
    min_user_interactions = to_int("min_user_interactions", min_user_interactions)
    min_item_interactions = to_int("min_item_interactions", min_item_interactions)
    users, items = interactions.user_index, interactions.item_index
    mask, counted = np.ones(len(users), dtype=np.bool_), interactions.in_sequence
    least_user, least_item = (
        n if n > 1 else 0 for n in (min_user_interactions, min_item_interactions)
    )
    rounds = 0
    while True:
        counts = None if counted is None else counted[mask]
        frequent_user = np.bincount(users, counts) >= least_user
        frequent_item = np.bincount(items, counts) >= least_item
        selected = frequent_user[users] & frequent_item[items]
        if selected.all():
            break
        mask[mask] = selected
        users, items = users[selected], items[selected]
        rounds += 1
    minimums = f"{min_user_interactions=!s}, {min_item_interactions=!s}"
    remedy = "lower min_user_interactions or min_item_interactions"
    return _apply_mask(interactions, mask, f"k_core({minimums})", remedy, rounds)


def min_rating(interactions: Interactions, min_rating: float) -> tuple[Interactions, FilterReport]:
    """Keep interactions with a rating of `min_rating` or more.

    Raises:
        ConfigError: `min_rating` is not a number.
        DataError: The data has no ratings, or none reaches `min_rating`.
    """
    require_type(interactions, Interactions, "read_ratings")
    min_rating = to_number("min_rating", min_rating)
    rating = interactions.rating
    if rating is None:
        raise DataError("min_rating needs ratings: the data has no column 'rating'")
    remedy = f"lower min_rating (the highest rating is {rating.max(initial=0):g})"
    return _apply_mask(interactions, rating >= min_rating, f"min_rating({min_rating:g})", remedy)


def time_window(
    interactions: Interactions, start: TimestampLike | None = None, end: TimestampLike | None = None
) -> tuple[Interactions, FilterReport]:
    """Keep interactions from `start` (inclusive) to `end` (exclusive); None sets no limit.

    Raises:
        ConfigError: `start` or `end` is not a point in time.
        DataError: The data has no timestamps, or nothing is in the window.
    """
    require_type(interactions, Interactions, "read_ratings")
    timestamp = interactions.require_timestamps("time_window")
    mask = np.ones(len(interactions), dtype=np.bool_)
    limits = []
    if start is not None:
        mask &= timestamp >= to_unix(start)
        limits.append(f"from {start}")
    if end is not None:
        mask &= timestamp < to_unix(end)
        limits.append(f"before {end}")
    remedy = f"widen the window (the timestamps are {format_time_range(timestamp)})"
    return _apply_mask(interactions, mask, f"time_window({', '.join(limits)})", remedy)


def _apply_mask(
    interactions: Interactions, mask: NDArray[np.bool_], name: str, remedy: str, rounds: int = 1
) -> tuple[Interactions, FilterReport]:
    if not mask.any():
        raise DataError(f"{name} removed all {len(interactions):,} rows: {remedy}")
    remaining = interactions.filter(mask).compact()
    require_catalogue_size(remaining.catalogue, f"{name}, the remaining items")
    before, after = (Shape(len(log), log.n_users, log.n_items) for log in (interactions, remaining))
    return remaining, FilterReport(name, before, after, rounds)
