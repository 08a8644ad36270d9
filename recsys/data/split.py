"""The one shape of every chronological split: what to learn from, and what to predict."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from recsys.data.interactions import Interactions

Subset = Literal["validation", "test"]

EXCLUDED, TRAIN, VALIDATION, TEST = -1, 0, 1, 2
"""The part that a row can be in. Within a user, no part is followed by a lower one."""

_PART_OF: dict[Subset, int] = {"validation": VALIDATION, "test": TEST}


@dataclass(frozen=True, eq=False)
class Split:
    """Watches to learn from, and later watches of the same log to predict.

    A prediction case is one row of the log, the target; its history is all that its user
    watched before it, earlier targets included. Models learn from `train` alone. Whatever made
    the split, it is refused unless no user has a train row after a target, validation targets
    come before test targets, and every target has a history.
    """

    interactions: Interactions
    assignment: NDArray[np.int8]
    """The part that each row is in, [n_rows]: `TRAIN`, `VALIDATION`, `TEST` or `EXCLUDED`."""
    protocol: str
    """What kind of split it is, for the fingerprint."""
    parameters: Mapping[str, str | int | float] = field(default_factory=dict)
    """What it was made with, for the fingerprint."""
    empty_reason: str = "there are no targets"
    """What is the matter where there are no targets, for messages."""

    def __post_init__(self) -> None:
        log = self.interactions
        if self.assignment.shape != (len(log),):
            raise ValueError(f"assignment has shape {self.assignment.shape} for {len(log)} rows")
        same_user = log.user_index[1:] == log.user_index[:-1]
        if np.any(same_user & (self.assignment[1:] < self.assignment[:-1])):
            raise ValueError("within a user, train has to come first, then validation, then test")
        first = log.user_offsets[:-1][log.history_lengths > 0]
        if np.any(self.assignment[first] > TRAIN):
            raise ValueError("the first watch of a user has no history to be predicted from")

    @cached_property
    def train(self) -> Interactions:
        """What to learn from: the rows that are in train, all users and items kept."""
        return self.interactions.filter(self.assignment == TRAIN)

    @cached_property
    def left_out(self) -> NDArray[np.int64]:
        """Row numbers of watches that are neither learned from nor predicted, ascending."""
        return np.flatnonzero(self.assignment == EXCLUDED)

    def filtered_by(self, facts: Mapping[str, str | int | float]) -> Split:
        """The same split, with what was filtered before it in its fingerprint."""
        return replace(self, parameters={**self.parameters, **facts})

    def without_leakage(self, earlier: Interactions) -> Split:
        """The same split, without targets that a model has learned from before.

        Ratings that arrive late, with times before those that are there, can turn what was in
        train into a target; so can a third watch of a user who had two. Such a target measures
        memory. It goes into train, with all that its user watched before it.

        Args:
            earlier: what a model was learned from, of any vocabulary; ids tell what is the same.

        Example:
            >>> import pandas as pd
            >>> from recsys.data.splitters import leave_last_out
            >>> from recsys.data.reading.read import read_ratings
            >>> log = pd.DataFrame({"user_id": [1] * 4, "item_id": [10, 20, 30, 40]})
            >>> split = leave_last_out(read_ratings(log, on_report=lambda report: None))
            >>> again = split.without_leakage(split.interactions.filter(split.assignment < TEST))
            >>> split.assignment.tolist(), again.assignment.tolist()
            ([0, 0, 1, 2], [0, 0, 0, 2])
        """
        log = self.interactions
        users = log.users.indices(earlier.users.ids)[earlier.user_index].astype(np.int64)
        items = log.items.indices(earlier.items.ids)[earlier.item_index]
        known = (users >= 0) & (items >= 0)
        learned = users[known] * log.n_items + items[known]
        targets = np.flatnonzero(self.assignment > TRAIN)
        pairs = log.user_index[targets].astype(np.int64) * log.n_items + log.item_index[targets]
        hit = targets[np.isin(pairs, learned)]
        last = np.full(log.n_users, -1, dtype=np.int64)
        last[log.user_index[hit]] = hit  # ascending: the last of each user stays
        part = self.assignment.copy()
        part[targets[targets <= last[log.user_index[targets]]]] = TRAIN
        return replace(self, assignment=part)

    def rows(self, subset: Subset) -> NDArray[np.int64]:
        """Row number of each target, ascending, [n]."""
        return self._rows[subset]

    def users(self, subset: Subset) -> NDArray[np.int64]:
        """User index of each target, ascending, [n]; a user stands here once per target."""
        return self.interactions.user_index[self.rows(subset)].astype(np.int64)

    def targets(self, subset: Subset) -> NDArray[np.int32]:
        """The item to predict in each case, [n]."""
        return self.interactions.item_index[self.rows(subset)]

    def histories(self, subset: Subset) -> Histories:
        """What the user had watched before each target, oldest first, [n]."""
        starts = self.interactions.user_offsets[self.users(subset)]
        return Histories(self.interactions.item_index, starts, self.rows(subset))

    def cold(self, subset: Subset) -> ColdStart:
        """Which targets are of users or items that train does not know."""
        train = self.train
        seen_items = np.bincount(train.item_index, minlength=train.n_items) > 0
        return ColdStart(
            users=train.history_lengths[self.users(subset)] == 0,
            items=~seen_items[self.targets(subset)],
        )

    def fingerprint(self, subset: Subset) -> dict[str, str | int | float]:
        """What must agree for two results to be comparable."""
        users = self.users(subset)
        sha = hashlib.sha256(users.tobytes() + self.targets(subset).tobytes())
        return {
            "protocol": self.protocol,
            **self.parameters,
            "subset": subset,
            "n_items": self.interactions.n_items,
            "n_users": len(np.unique(users)),
            "data_digest": self.interactions.digest,
            "targets_digest": sha.hexdigest(),
        }

    @cached_property
    def _rows(self) -> dict[Subset, NDArray[np.int64]]:
        return {
            target: np.flatnonzero(self.assignment == part) for target, part in _PART_OF.items()
        }


@dataclass(frozen=True, eq=False)
class Histories(Sequence[NDArray[np.int32]]):
    """Stretches of the log, each cut out when it is asked for, as a view: nothing is copied."""

    items: NDArray[np.int32]
    """The log's items, [n_rows]."""
    starts: NDArray[np.int64]
    """First row of each history, [n]."""
    stops: NDArray[np.int64]
    """One after its last row, [n]."""

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, at: int) -> NDArray[np.int32]: ...
    @overload
    def __getitem__(self, at: slice) -> list[NDArray[np.int32]]: ...
    def __getitem__(self, at: int | slice) -> NDArray[np.int32] | list[NDArray[np.int32]]:
        if isinstance(at, slice):
            cuts = zip(self.starts[at], self.stops[at], strict=True)
            return [self.items[start:stop] for start, stop in cuts]
        return self.items[self.starts[at] : self.stops[at]]


@dataclass(frozen=True, eq=False)
class ColdStart:
    """Which targets ask for something that train knows nothing of.

    Example:
        >>> cold = ColdStart(users=np.array([True, False, False]), items=np.array([True] * 3))
        >>> print(cold)
        of 3 targets, 1 is of a user that train does not know, 3 of an item; 0 of neither
    """

    users: NDArray[np.bool_]
    """Whether the user of each target has no row in train, [n]."""
    items: NDArray[np.bool_]
    """Whether its item has none, [n]."""

    @property
    def warm(self) -> NDArray[np.bool_]:
        """Whether train knows both, [n]."""
        return ~(self.users | self.items)

    def counts(self) -> dict[str, int]:
        """How many targets there are, and of which kinds."""
        return {
            "targets": len(self.users),
            "cold_users": int(self.users.sum()),
            "cold_items": int(self.items.sum()),
            "warm": int(self.warm.sum()),
        }

    def __str__(self) -> str:
        n = self.counts()
        verb = "is" if n["cold_users"] == 1 else "are"
        return (
            f"of {n['targets']:,} targets, {n['cold_users']:,} {verb} of a user that train does "
            f"not know, {n['cold_items']:,} of an item; {n['warm']:,} of neither"
        )
