"""Chronological splits into interactions to train on and held-out items to predict."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from recsys.arguments import require, require_type, to_int, to_number
from recsys.data.interactions import Interactions, TimestampLike, format_time_range, to_unix
from recsys.data.sessions import Sessions
from recsys.errors import ConfigError, DataError

Subset = Literal["validation", "test"]
"""The held-out part of a split."""

OVER_TARGETS: Final = {"mean": "over targets"}
"""Parameter of a split whose metrics are means over targets instead of users."""

_DAY: Final = 86_400
_MIN_SESSIONS: Final = 3

EXCLUDED, TRAIN, VALIDATION, TEST = -1, 0, 1, 2
"""Values of `Split.assignment`. Apart from `EXCLUDED`, they never decrease along a history."""


class ColdStart(NamedTuple):
    """Which targets have a user, or an item, without train rows, [n] each."""

    users: NDArray[np.bool_]
    items: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Split:
    """Interactions to train on, and later interactions of the same log to predict.

    The item of a held-out row is a target, unless the row `is_return`; its history is everything
    that the user did before it, including earlier targets. Models train on `train` only, and
    co-occurrences are counted from `positives`.

    Raises:
        ValueError: The rows of a user are in another order, or a target has no history.
    """

    interactions: Interactions
    """The rows that form the histories."""
    assignment: NDArray[np.int8]
    """Subset of each row, [n_rows]: `TRAIN`, `VALIDATION`, `TEST` or `EXCLUDED`."""
    protocol: str
    """Name of the kind of split, for the fingerprint."""
    parameters: Mapping[str, str | int | float] = field(default_factory=dict)
    """Parameters of the split, for the fingerprint."""
    empty_reason: str = "there are no targets"
    """Why there are no targets, if there are none, for error messages."""
    log: Interactions | None = None
    """All rows, of which `interactions` are the sequence; None if they are all."""
    known_before: int | None = None
    """Time, in seconds since 1970, from which on nothing is trained on; None if there is none."""

    def __post_init__(self) -> None:
        interactions, assignment = self.interactions, self.assignment
        if assignment.shape != (len(interactions),):
            raise ValueError(f"assignment has shape {assignment.shape}, not {len(interactions)}")
        used = np.flatnonzero(assignment != EXCLUDED)
        same_user = np.diff(interactions.user_index[used]) == 0
        if np.any(same_user & (np.diff(assignment[used]) < 0)):
            raise ValueError("each user needs train rows first, then validation, then test")
        first = interactions.user_offsets[:-1][interactions.history_lengths > 0]
        if np.any(assignment[first] > TRAIN):
            raise ValueError("the first interaction of a user has no history to predict it from")

    def __repr__(self) -> str:
        n_train = np.count_nonzero(self.assignment == TRAIN)
        targets = [f"{len(self.rows(subset)):,} {subset} targets" for subset in get_args(Subset)]
        return f"<Split by {self.protocol}: {n_train:,} rows to train on, {', '.join(targets)}>"

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: the fields, but not what is computed from them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def train(self) -> Interactions:
        """The interactions to train on, with the vocabularies of the whole log."""
        return self.interactions.filter(self.assignment == TRAIN)

    @cached_property
    def positives(self) -> Interactions:
        """The rows to count co-occurrences from: `train`, and events that form no history.

        Of these, those that come before the first row of their user that is held out.
        """
        log = self.log
        if log is None or (log.weight is None and log.in_sequence is None):
            return self.train
        forms_history = np.ones(len(log), np.bool_) if log.in_sequence is None else log.in_sequence
        is_held_out = np.zeros(len(log), np.int64)
        is_held_out[forms_history] = self.assignment != TRAIN
        n_before = np.concatenate([[0], is_held_out.cumsum()])
        first = log.user_offsets[log.user_index]
        if log.sessions is not None and self.parameters.items() >= OVER_TARGETS.items():
            owner = np.repeat(log.sessions.user_index, log.sessions.lengths)
            first = np.searchsorted(owner, owner)  # of all sessions of the user
        mask = n_before[:-1] == n_before[first]
        if self.known_before is not None and log.timestamp is not None:
            mask &= log.timestamp < self.known_before
        mask[forms_history] = self.assignment == TRAIN
        return log.filter(mask)

    @cached_property
    def excluded(self) -> NDArray[np.int64]:
        """Row numbers that are neither in train nor targets, ascending."""
        return np.flatnonzero((self.assignment != TRAIN) & ~self._is_target)

    @cached_property
    def _is_target(self) -> NDArray[np.bool_]:
        is_return = self.interactions.is_return
        is_held_out = self.assignment > TRAIN
        return is_held_out if is_return is None else is_held_out & ~is_return

    def with_filters(self, parameters: Mapping[str, str | int | float]) -> Split:
        """Return the same split with the filters applied before it in its fingerprint."""
        return replace(self, parameters={**self.parameters, **parameters})

    def without_leakage(self, earlier: Interactions) -> Split:
        """Return the same split without the targets that are in `earlier`, which a model has seen.

        Ratings that arrive late can turn a train row of an earlier run into a target. Such targets,
        and those before them in the history of their user, become train rows. Users and items are
        matched by external ids. Of an item that a user repeats, the first rows are taken for those
        that are in `earlier`, as many as it has.
        """
        log, earlier = self.interactions, _sequence(earlier)
        users = log.users.indices(earlier.users.ids)[earlier.user_index].astype(np.int64)
        items = log.items.indices(earlier.items.ids)[earlier.item_index]
        known = (users >= 0) & (items >= 0)
        trained_on = users[known] * log.n_items + items[known]
        pairs = log.pairs()
        # How many rows of the same pair come before each row, and how many `earlier` has.
        order = np.argsort(pairs, kind="stable")
        n_before = np.empty(len(log), dtype=np.int64)
        n_before[order] = np.arange(len(log)) - np.searchsorted(pairs[order], pairs[order])
        trained_on.sort()
        start, stop = (np.searchsorted(trained_on, pairs, side) for side in ("left", "right"))
        targets = np.flatnonzero(self.assignment > TRAIN)
        leaked = targets[(n_before < stop - start)[targets]]
        last = np.full(log.n_users, -1, dtype=np.int64)
        last[log.user_index[leaked]] = leaked  # ascending, so the last one of each user wins
        assignment = self.assignment.copy()
        assignment[targets[targets <= last[log.user_index[targets]]]] = TRAIN
        return replace(self, assignment=assignment)

    def rows(self, subset: Subset) -> NDArray[np.int64]:
        """Row number of each target, ascending, [n]."""
        require(Subset, subset=subset)
        value = VALIDATION if subset == "validation" else TEST
        return np.flatnonzero((self.assignment == value) & self._is_target)

    def users(self, subset: Subset) -> NDArray[np.int64]:
        """User index of each target, ascending, [n]; a user occurs once per target."""
        return self.interactions.user_index[self.rows(subset)].astype(np.int64)

    def targets(self, subset: Subset) -> NDArray[np.int32]:
        """Item index of each target, [n]."""
        return self.interactions.item_index[self.rows(subset)]

    def histories(self, subset: Subset, cases: slice = slice(None)) -> list[NDArray[np.int32]]:
        """Item indices that precede each target, oldest first, [n], as views of the log."""
        require(slice, cases=cases)
        items, starts = self.interactions.item_index, self.interactions.user_offsets
        users, rows = self.users(subset)[cases], self.rows(subset)[cases]
        bounds = zip(starts[users].tolist(), rows.tolist(), strict=True)
        return [items[start:stop] for start, stop in bounds]

    def cold(self, subset: Subset) -> ColdStart:
        """Which targets belong to users or items without train rows."""
        train = self.train
        seen_items = np.bincount(train.item_index, minlength=train.n_items) > 0
        user = np.arange(train.n_users, dtype=np.int32)
        if train.sessions is not None and train.histories == "session":
            user = train.sessions.user_index
        n_train = np.bincount(user, weights=train.history_lengths)
        return ColdStart(
            users=n_train[user[self.users(subset)]] == 0,
            items=~seen_items[self.targets(subset)],
        )

    def fingerprint(self, subset: Subset) -> dict[str, str | int | float]:
        """Everything that must be equal for two results to be comparable."""
        users = self.users(subset)
        sha = hashlib.sha256(users.tobytes() + self.targets(subset).tobytes())
        log = self.interactions
        return {
            "protocol": self.protocol,
            **self.parameters,
            **({} if log.sessions is None else {"histories": log.histories}),
            "subset": subset,
            "n_items": self.interactions.n_items,
            "n_users": len(np.unique(users)),
            "data_digest": self.interactions.digest,
            "targets_digest": sha.hexdigest(),
        }


def leave_last_out(interactions: Interactions) -> Split:
    """Hold out the last interaction of each user for test and the one before it for validation.

    Nothing that the same user did after a target is known; later interactions of *other* users may
    be: if that matters, use `global_time_cut`. Users with fewer than three interactions have no
    targets.

    Example:
        >>> import pandas as pd
        >>> from recsys.data import read_ratings
        >>> table = pd.DataFrame({"user_id": [1, 1, 1, 1], "item_id": [10, 20, 30, 40]})
        >>> split = leave_last_out(read_ratings(table))
        >>> split.train.history(0).tolist()
        [0, 1]
        >>> split.targets("validation").tolist(), split.targets("test").tolist()
        ([2], [3])
        >>> split.histories("test")[0].tolist()
        [0, 1, 2]
    """
    split = leave_last_n(interactions, 1)
    empty_reason = "no user has three interactions"
    return replace(split, protocol="leave-last-out", parameters={}, empty_reason=empty_reason)


def leave_last_n(interactions: Interactions, n: int) -> Split:
    """Hold out the last n interactions of each user for test and the n before for validation.

    As `leave_last_out`; histories include earlier targets. Users with fewer than 2 n + 1
    interactions have no targets.

    Raises:
        ConfigError: n is not an integer of 1 or more.
    """
    n = to_int("n", n)
    empty_reason = f"no user has the {2 * n + 1} interactions that leave_last_n(n={n}) needs"
    log, interactions = interactions, _sequence(interactions)
    counts = np.where(interactions.history_lengths > 2 * n, n, 0)
    assignment = _assign_counts(interactions, counts, counts)
    return Split(interactions, assignment, "leave-last-n", {"n": n}, empty_reason, log)


def global_time_cut(
    interactions: Interactions, *, validation_from: TimestampLike, test_from: TimestampLike
) -> Split:
    """Train on everything before one point in time; later interactions are targets.

    Nothing later than a target is known, of any user. Histories include earlier targets. Users and
    items may be new after the cut, see `Split.cold`. The first interaction of a new user cannot be
    predicted: it is excluded from train and targets (`Split.excluded`), but is in the histories.

    Raises:
        ConfigError: An argument is not a point in time, or they are not in order.
        DataError: There are no timestamps, sessions overlap in the history of a user, or there is
            nothing before `validation_from`.
    """
    log, interactions = interactions, _sequence(interactions)
    timestamp = interactions.require_timestamps("global_time_cut")
    is_backward = (np.diff(timestamp) < 0) & (np.diff(interactions.user_index) == 0)
    if is_backward.any():
        user = interactions.users.ids[interactions.user_index[is_backward.argmax()]]
        raise DataError(
            f"global_time_cut needs histories in order of time, and sessions of user {user} "
            "overlap: use last_days, or set histories = 'session'"
        )
    cuts = [to_unix(validation_from), to_unix(test_from)]
    if cuts[0] >= cuts[1]:
        raise ConfigError(
            f"test_from ({test_from}) must be later than validation_from ({validation_from})"
        )
    time_range = f"the timestamps are {format_time_range(timestamp)}"
    assignment = np.where(timestamp >= cuts[0], VALIDATION, TRAIN).astype(np.int8)
    assignment[timestamp >= cuts[1]] = TEST
    if not np.any(assignment == TRAIN):
        raise DataError(f"no interactions before validation_from ({validation_from}); {time_range}")
    first = interactions.user_offsets[:-1][interactions.history_lengths > 0]
    assignment[first[assignment[first] != TRAIN]] = EXCLUDED
    parameters = {"validation_from": cuts[0], "test_from": cuts[1]}
    empty_reason = (
        f"no interaction after validation_from={validation_from} and test_from={test_from} has a "
        f"history; {time_range}"
    )
    kind = "global-time-cut"
    return Split(interactions, assignment, kind, parameters, empty_reason, log, cuts[0])


def per_user_ratio(interactions: Interactions, validation: float = 0.1, test: float = 0.1) -> Split:
    """Hold out the last share of each history for test and the share before it for validation.

    As `leave_last_n`, but long histories get more weight: of L interactions the last ⌊test · L⌋ are
    test targets and the ⌊validation · L⌋ before them validation targets. One or more are in train.

    Raises:
        ConfigError: A ratio is not a number from 0 to 1, or they leave nothing for train.
    """
    # Exact decimals, so that 0.29 of 100 is 29: the float nearest to 0.29 is less than 0.29.
    shares = {"validation": validation, "test": test}
    ratios = [Fraction(str(to_number(name, share, 0, 1))) for name, share in shares.items()]
    if sum(ratios) >= 1:
        raise ConfigError(
            f"per_user_ratio: validation={validation} and test={test} must add up to less than 1"
        )
    log, interactions = interactions, _sequence(interactions)
    lengths = interactions.history_lengths
    possible = range(int(lengths.max(initial=0)) + 1)
    counts = [np.array([int(ratio * n) for n in possible], np.int64)[lengths] for ratio in ratios]
    parameters = {"validation_ratio": float(validation), "test_ratio": float(test)}
    empty_reason = (
        f"no history is long enough for a target with validation={validation} and test={test}"
    )
    assignment = _assign_counts(interactions, *counts)
    return Split(interactions, assignment, "per-user-ratio", parameters, empty_reason, log)


def last_session(interactions: Interactions) -> Split:
    """Hold out the last session of each user for test and the one before it for validation.

    Each event of a held-out session but its first is a target. The first is excluded from train
    and targets (`Split.excluded`), but is in the histories. Users with fewer than three sessions
    have no targets. Targets are the same whether histories are sessions or users.

    Raises:
        DataError: There are no sessions, or no user has three.
    """
    log, interactions = interactions, _sequence(interactions)
    sessions = interactions.require_sessions("last_session")
    owner = sessions.user_index[sessions.lengths > 0]
    n_sessions = np.bincount(owner, minlength=len(sessions.users))
    if n_sessions.max(initial=0) < _MIN_SESSIONS:
        raise DataError("last_session: no user has three sessions; use last_days")
    n_left = np.cumsum(n_sessions)[owner] - np.arange(len(owner))  # of the user, from this one
    subsets = np.full(len(owner), TRAIN, dtype=np.int8)
    subsets[(n_sessions[owner] >= _MIN_SESSIONS) & (n_left == 2)] = VALIDATION
    subsets[(n_sessions[owner] >= _MIN_SESSIONS) & (n_left == 1)] = TEST
    return _hold_out_sessions(log, sessions, subsets, "last-session", {})


def last_days(interactions: Interactions, days: int = 1) -> Split:
    """Hold out the sessions of the last days for test, and those of the days before for validation.

    This is the protocol of GRU4Rec (Hidasi et al. 2016): a session belongs to the day, of 24 hours
    back from the end of the log, in which it ends, and each event of a held-out session but its
    first is predicted from those before it. If sessions of a user overlap, none is in an earlier
    subset than one that starts before it. Targets are as those of `last_session`.

    Raises:
        ConfigError: `days` is not an integer of 1 or more.
        DataError: There are no sessions or no timestamps, or all sessions end in these days.
    """
    days = to_int("days", days)
    log, interactions = interactions, _sequence(interactions)
    sessions = interactions.require_sessions("last_days")
    timestamp = interactions.require_timestamps("last_days")
    has_rows = sessions.lengths > 0
    end, owner = timestamp[sessions.offsets[1:][has_rows] - 1], sessions.user_index[has_rows]
    age = end.max(initial=0) - end
    subsets = np.where(
        age <= days * _DAY, TEST, np.where(age <= 2 * days * _DAY, VALIDATION, TRAIN)
    )
    # The running maximum of each user: users are ascending, and count more than subsets.
    subsets = np.maximum.accumulate(owner * (TEST + 1) + subsets) - owner * (TEST + 1)
    if not np.any(subsets == TRAIN):
        raise DataError(
            f"last_days: no session ends before the last {2 * days} days; the timestamps are "
            f"{format_time_range(timestamp)}"
        )
    split = _hold_out_sessions(log, sessions, subsets, "last-days", {"days": days})
    return replace(split, known_before=int(end.max()) - 2 * days * _DAY)


def _sequence(interactions: Interactions) -> Interactions:
    require_type(interactions, Interactions, "read_ratings")
    return interactions.sequence()


def _hold_out_sessions(
    log: Interactions,
    sessions: Sessions,
    subsets: NDArray[np.integer],
    protocol: str,
    parameters: Mapping[str, str | int | float],
) -> Split:
    """Assign the rows of the sequence to subsets, given those of its sessions with rows."""
    lengths = sessions.lengths[sessions.lengths > 0]
    assignment = np.repeat(subsets, lengths).astype(np.int8)
    first = np.cumsum(lengths) - lengths
    assignment[first[subsets != TRAIN]] = EXCLUDED
    empty_reason = "no session that is held out has two interactions"
    parameters = {**parameters, **OVER_TARGETS}
    return Split(log.sequence(), assignment, protocol, parameters, empty_reason, log)


def _assign_counts(
    interactions: Interactions, n_validation: NDArray[np.int64], n_test: NDArray[np.int64]
) -> NDArray[np.int8]:
    """Assign rows to subsets, given the number of targets of each user, [n_users]."""
    n_train = interactions.history_lengths - n_validation - n_test
    subsets = np.tile(np.array([TRAIN, VALIDATION, TEST], dtype=np.int8), interactions.n_users)
    return np.repeat(subsets, np.column_stack([n_train, n_validation, n_test]).ravel())
