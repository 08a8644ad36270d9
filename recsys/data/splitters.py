"""Four ways to split interactions by time, and the leakage that each prevents."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from recsys.data.interactions import Interactions, TimestampLike, format_time_range, to_unix
from recsys.data.split import EXCLUDED, TEST, TRAIN, VALIDATION, Split
from recsys.errors import ConfigError, DataError


def leave_last_out(interactions: Interactions) -> Split:
    """Hold out the last interaction of each user for test and the one before it for validation.

    Prevents training on, or predicting from, what the same user did after the target. Training
    data may include later interactions of *other* users; if that matters, use `global_time_cut`.
    Users with fewer than three interactions have no targets and are entirely in train.

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
    assignment = _assign_last_n(interactions, 1)
    empty_reason = "no user has three interactions"
    return Split(interactions, assignment, "leave-last-out", {}, empty_reason)


def leave_last_n(interactions: Interactions, n: int) -> Split:
    """Hold out the last n interactions of each user for test and the n before for validation.

    Prevents the same leakage as `leave_last_out` for every target. The history of a target
    includes earlier targets of the same user. Users with fewer than 2 n + 1 interactions have no
    targets and are entirely in train.

    Raises:
        ConfigError: n is less than one.
    """
    if n < 1:
        raise ConfigError(f"leave_last_n: n is {n}; it must be 1 or more")
    empty_reason = f"no user has the {2 * n + 1} interactions that leave_last_n(n={n}) needs"
    assignment = _assign_last_n(interactions, n)
    return Split(interactions, assignment, "leave-last-n", {"n": int(n)}, empty_reason)


def global_time_cut(
    interactions: Interactions, *, validation_from: TimestampLike, test_from: TimestampLike
) -> Split:
    """Train on everything before one point in time; later interactions are targets.

    Prevents training on anything later than a target, by any user: neither popularity nor
    co-occurrence reflects future interactions. The history of a target includes earlier targets
    of the same user.

    Users and items may be new after the cut, see `Split.cold`. The first interaction of a new
    user cannot be predicted: it is excluded from train and targets (`Split.excluded`) but is part
    of the histories.

    Args:
        interactions: Interactions with timestamps.
        validation_from: Start of the validation targets.
        test_from: Start of the test targets.

    Raises:
        ConfigError: An argument is not a point in time, or they are not in order.
        DataError: There are no timestamps, or there is nothing before `validation_from`.

    Example:
        >>> import pandas as pd
        >>> from recsys.data import read_ratings
        >>> table = pd.DataFrame({
        ...     "user_id":   [1,  1,  1,  2,  2],
        ...     "item_id":   [10, 20, 30, 10, 40],
        ...     "timestamp": [1,  5,  9,  8,  9],
        ... })
        >>> split = global_time_cut(read_ratings(table), validation_from=5, test_from=8)
        >>> split.train.history(0).tolist(), split.train.history(1).tolist()
        ([0], [])
        >>> split.targets("validation").tolist(), split.targets("test").tolist()
        ([1], [2, 3])
        >>> [history.tolist() for history in split.histories("test")]
        [[0, 1], [0]]
        >>> split.cold("test").users.tolist()
        [False, True]
    """
    timestamp = interactions.require_timestamps("global_time_cut")
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
    return Split(interactions, assignment, "global-time-cut", parameters, empty_reason)


def per_user_ratio(interactions: Interactions, validation: float = 0.1, test: float = 0.1) -> Split:
    """Hold out the last share of each history for test and the share before it for validation.

    Prevents the same leakage as `leave_last_out` for every target, and gives long histories more
    weight. Of L interactions the last ⌊test · L⌋ are test targets and the ⌊validation · L⌋ before
    them validation targets. At least one is in train; short histories may have no targets.

    Raises:
        ConfigError: A ratio is negative, or together they leave nothing for train.
    """
    # Exact decimals, so that 0.29 of 100 is 29: the float nearest to 0.29 is less than 0.29.
    ratios = [Fraction(str(ratio)) for ratio in (validation, test)]
    if min(ratios) < 0 or sum(ratios) >= 1:
        raise ConfigError(
            f"per_user_ratio: validation={validation} and test={test} must be 0 or more and add "
            "up to less than 1"
        )
    lengths = interactions.history_lengths
    possible = range(int(lengths.max(initial=0)) + 1)
    counts = [np.array([int(ratio * n) for n in possible], np.int64)[lengths] for ratio in ratios]
    parameters = {"validation_ratio": float(validation), "test_ratio": float(test)}
    empty_reason = (
        f"no history is long enough for a target with validation={validation} and test={test}"
    )
    assignment = _assign_counts(interactions, *counts)
    return Split(interactions, assignment, "per-user-ratio", parameters, empty_reason)


def _assign_last_n(interactions: Interactions, n: int) -> NDArray[np.int8]:
    counts = np.where(interactions.history_lengths > 2 * n, n, 0)
    return _assign_counts(interactions, counts, counts)


def _assign_counts(
    interactions: Interactions, n_validation: NDArray[np.int64], n_test: NDArray[np.int64]
) -> NDArray[np.int8]:
    """Assign rows to subsets, given the number of targets of each user, [n_users]."""
    n_train = interactions.history_lengths - n_validation - n_test
    subsets = np.tile(np.array([TRAIN, VALIDATION, TEST], dtype=np.int8), interactions.n_users)
    return np.repeat(subsets, np.column_stack([n_train, n_validation, n_test]).ravel())
