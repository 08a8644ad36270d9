"""The result of a chronological split: interactions to train on, and held-out items to predict."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from recsys.data.interactions import Interactions

Subset = Literal["validation", "test"]

EXCLUDED, TRAIN, VALIDATION, TEST = -1, 0, 1, 2
"""Values of `Split.assignment`. They never decrease along the history of a user."""

_ASSIGNMENT: dict[Subset, int] = {"validation": VALIDATION, "test": TEST}


class ColdStart(NamedTuple):
    """Which targets have a user, or an item, without train rows."""

    users: NDArray[np.bool_]
    """[n]"""
    items: NDArray[np.bool_]
    """[n]"""


@dataclass(frozen=True, eq=False)
class Split:
    """Interactions to train on, and later interactions of the same log to predict.

    Each prediction case is one row of the log. Its item is the target; its history is everything
    that the user did before it, including earlier targets. Models train on `train` only.

    Raises:
        ValueError: A user has a train row after a target or a validation target after a test
            target, or a target has no history.
    """

    interactions: Interactions
    assignment: NDArray[np.int8]
    """Subset of each row, [n_rows]: `TRAIN`, `VALIDATION`, `TEST` or `EXCLUDED`."""
    protocol: str
    """Name of the kind of split, for the fingerprint."""
    parameters: Mapping[str, str | int | float] = field(default_factory=dict)
    """Parameters of the split, for the fingerprint."""
    empty_reason: str = "there are no targets"
    """Why there are no targets, if there are none, for error messages."""

    def __post_init__(self) -> None:
        interactions, assignment = self.interactions, self.assignment
        if assignment.shape != (len(interactions),):
            raise ValueError(f"assignment has shape {assignment.shape}, not {len(interactions)}")
        same_user = interactions.user_index[1:] == interactions.user_index[:-1]
        if np.any(same_user & (assignment[1:] < assignment[:-1])):
            raise ValueError("each user needs train rows first, then validation, then test")
        first = interactions.user_offsets[:-1][interactions.history_lengths > 0]
        if np.any(assignment[first] > TRAIN):
            raise ValueError("the first interaction of a user has no history to predict it from")

    @cached_property
    def train(self) -> Interactions:
        """The interactions to train on, with the vocabularies of the whole log."""
        return self.interactions.filter(self.assignment == TRAIN)

    @cached_property
    def excluded(self) -> NDArray[np.int64]:
        """Row numbers that are neither in train nor targets, ascending."""
        return np.flatnonzero(self.assignment == EXCLUDED)

    def with_filters(self, parameters: Mapping[str, str | int | float]) -> Split:
        """Return the same split with the filters applied before it in its fingerprint."""
        return replace(self, parameters={**self.parameters, **parameters})

    def without_leakage(self, earlier: Interactions) -> Split:
        """Return the same split without the targets that a model was trained on before.

        Late ratings with early timestamps can turn a train row of an earlier run into a target;
        so can the third interaction of a user who had two. Such targets, and those before them in
        the history of their user, become train rows.

        Args:
            earlier: What a model was trained on, matched by external ids.
        """
        log = self.interactions
        users = log.users.indices(earlier.users.ids)[earlier.user_index].astype(np.int64)
        items = log.items.indices(earlier.items.ids)[earlier.item_index]
        known = (users >= 0) & (items >= 0)
        trained_on = users[known] * log.n_items + items[known]
        targets = np.flatnonzero(self.assignment > TRAIN)
        pairs = log.user_index[targets].astype(np.int64) * log.n_items + log.item_index[targets]
        leaked = targets[np.isin(pairs, trained_on)]
        last = np.full(log.n_users, -1, dtype=np.int64)
        last[log.user_index[leaked]] = leaked  # ascending, so the last one of each user wins
        assignment = self.assignment.copy()
        assignment[targets[targets <= last[log.user_index[targets]]]] = TRAIN
        return replace(self, assignment=assignment)

    def rows(self, subset: Subset) -> NDArray[np.int64]:
        """Row number of each target, ascending, [n]."""
        return self._rows[subset]

    def users(self, subset: Subset) -> NDArray[np.int64]:
        """User index of each target, ascending, [n]; a user occurs once per target."""
        return self.interactions.user_index[self.rows(subset)].astype(np.int64)

    def targets(self, subset: Subset) -> NDArray[np.int32]:
        """Item index of each target, [n]."""
        return self.interactions.item_index[self.rows(subset)]

    def histories(self, subset: Subset) -> HistoryView:
        """Item indices that precede each target, oldest first, [n]."""
        starts = self.interactions.user_offsets[self.users(subset)]
        return HistoryView(self.interactions.item_index, starts, self.rows(subset))

    def cold(self, subset: Subset) -> ColdStart:
        """Which targets belong to users or items without train rows."""
        train = self.train
        seen_items = np.bincount(train.item_index, minlength=train.n_items) > 0
        return ColdStart(
            users=train.history_lengths[self.users(subset)] == 0,
            items=~seen_items[self.targets(subset)],
        )

    def fingerprint(self, subset: Subset) -> dict[str, str | int | float]:
        """Everything that must be equal for two results to be comparable."""
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
            subset: np.flatnonzero(self.assignment == value)
            for subset, value in _ASSIGNMENT.items()
        }


@dataclass(frozen=True, eq=False)
class HistoryView(Sequence[NDArray[np.int32]]):
    """A sequence of slices of one array of items, created on access as views without copying."""

    items: NDArray[np.int32]
    """Items of the whole log, [n_rows]."""
    starts: NDArray[np.int64]
    """First row of each history, [n]."""
    stops: NDArray[np.int64]
    """One past the last row of each history, [n]."""

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.int32]: ...
    @overload
    def __getitem__(self, index: slice) -> list[NDArray[np.int32]]: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.int32] | list[NDArray[np.int32]]:
        if isinstance(index, slice):
            bounds = zip(self.starts[index], self.stops[index], strict=True)
            return [self.items[start:stop] for start, stop in bounds]
        return self.items[self.starts[index] : self.stops[index]]
