"""Four ways to split a log by time, and the leak that each prevents."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from recsys.data.interactions import Interactions
from recsys.data.split import EXCLUDED, TEST, TRAIN, VALIDATION, Split
from recsys.data.timestamps import TimestampLike, require_timestamps, time_range, to_unix
from recsys.errors import ConfigError, DataError


def leave_last_out(interactions: Interactions) -> Split:
    """Each user's last watch is the test target, the one before it the validation target.

    Prevents that a model learns from what a user watched later than the target, and that a
    prediction is made from it. It may learn from what *other* users watched later: where that
    matters, use `global_time_cut`. Users with fewer than three watches have no targets; all
    their watches are in train.

    Example:
        >>> import pandas as pd
        >>> from recsys.data.reading.read import read_ratings
        >>> log = pd.DataFrame({"user_id": [1, 1, 1, 1], "item_id": [10, 20, 30, 40]})
        >>> split = leave_last_out(read_ratings(log))
        >>> split.train.history(0).tolist()
        [0, 1]
        >>> split.targets("validation").tolist(), split.targets("test").tolist()
        ([2], [3])
        >>> split.histories("test")[0].tolist()
        [0, 1, 2]
    """
    part = _last_of_each_user(interactions, 1)
    return Split(interactions, part, "leave-last-out", {}, "no user has three watches")


def leave_last_n(interactions: Interactions, n: int) -> Split:
    """Each user's last n watches are test targets, the n before them validation targets.

    Prevents the same leak as `leave_last_out`, for each of the targets: one is predicted from
    all that its user watched before it, earlier targets included, and none is learned from.
    Users with fewer than 2 n + 1 watches have no targets; all their watches are in train.

    Raises:
        ConfigError: n is less than one.

    Example:
        >>> import pandas as pd
        >>> from recsys.data.reading.read import read_ratings
        >>> log = pd.DataFrame({"user_id": [1] * 5, "item_id": [10, 20, 30, 40, 50]})
        >>> split = leave_last_n(read_ratings(log), n=2)
        >>> split.train.history(0).tolist()
        [0]
        >>> split.users("test").tolist(), split.targets("test").tolist()
        ([0, 0], [3, 4])
        >>> [history.tolist() for history in split.histories("test")]
        [[0, 1, 2], [0, 1, 2, 3]]
    """
    if n < 1:
        raise ConfigError(f"leave_last_n: n is {n}; it has to be 1 or more")
    empty_reason = f"no user has {2 * n + 1} watches, which leave_last_n(n={n}) needs"
    part = _last_of_each_user(interactions, n)
    return Split(interactions, part, "leave-last-n", {"n": int(n)}, empty_reason)


def global_time_cut(
    interactions: Interactions, *, validation_from: TimestampLike, test_from: TimestampLike
) -> Split:
    """Train is what anyone watched before one moment; later watches are targets.

    Prevents that a model learns from anything later than a target, by whichever user: no item
    is popular, and no two films go together, on account of watches that were still to come. A
    target is predicted from all that its user watched before it, earlier targets included.

    A user may be new since the cut, and so may an item: `Split.cold` tells. The first watch of
    a user who is new cannot be predicted from anything; it is left out of train and of the
    targets, but is part of the histories (`Split.left_out`).

    Args:
        interactions: who watched what, with times.
        validation_from: watches from here on are validation targets.
        test_from: watches from here on are test targets.

    Raises:
        ConfigError: a moment cannot be read, or the second is not after the first.
        DataError: there are no times, or nothing was watched before `validation_from`.

    Example:
        >>> import pandas as pd
        >>> from recsys.data.reading.read import read_ratings
        >>> log = pd.DataFrame({
        ...     "user_id":   [1,  1,  1,  2,  2],
        ...     "item_id":   [10, 20, 30, 10, 40],
        ...     "timestamp": [1,  5,  9,  8,  9],
        ... })
        >>> split = global_time_cut(read_ratings(log), validation_from=5, test_from=8)
        >>> split.train.history(0).tolist(), split.train.history(1).tolist()
        ([0], [])
        >>> split.targets("validation").tolist(), split.targets("test").tolist()
        ([1], [2, 3])
        >>> [history.tolist() for history in split.histories("test")]
        [[0, 1], [0]]
        >>> split.cold("test").users.tolist()
        [False, True]
    """
    timestamp = require_timestamps(interactions, "global_time_cut")
    cuts = [to_unix(validation_from), to_unix(test_from)]
    if cuts[0] >= cuts[1]:
        raise ConfigError(
            f"test_from ({test_from}) has to be later than validation_from ({validation_from})"
        )
    reach = f"the ratings reach {time_range(timestamp)}"
    part = np.where(timestamp >= cuts[0], VALIDATION, TRAIN).astype(np.int8)
    part[timestamp >= cuts[1]] = TEST
    if not np.any(part == TRAIN):
        raise DataError(f"nothing was watched before validation_from ({validation_from}); {reach}")
    first = interactions.user_offsets[:-1][interactions.history_lengths > 0]
    part[first[part[first] != TRAIN]] = EXCLUDED
    parameters = {"validation_from": cuts[0], "test_from": cuts[1]}
    empty_reason = (
        f"no watch after the cut at {validation_from} and {test_from} has a history; {reach}"
    )
    return Split(interactions, part, "global-time-cut", parameters, empty_reason)


def per_user_ratio(interactions: Interactions, validation: float = 0.1, test: float = 0.1) -> Split:
    """The last part of each user's watches are test targets, the part before it validation.

    Prevents the same leak as `leave_last_out`, for each of the targets, and lets long histories
    count for more than short ones. Of a user's L watches the last ⌊test · L⌋ are test targets
    and the ⌊validation · L⌋ before them validation targets, so that at least one is in train;
    short histories may have no targets at all.

    Raises:
        ConfigError: a ratio is negative, or both together leave nothing for train.

    Example:
        >>> import pandas as pd
        >>> from recsys.data.reading.read import read_ratings
        >>> log = pd.DataFrame({"user_id": [1] * 5 + [2], "item_id": [10, 20, 30, 40, 50, 50]})
        >>> split = per_user_ratio(read_ratings(log), validation=0.2, test=0.4)
        >>> split.train.history(0).tolist(), split.train.history(1).tolist()
        ([0, 1], [4])
        >>> split.targets("validation").tolist(), split.targets("test").tolist()
        ([2], [3, 4])
    """
    # As it is written, so that 0.29 of 100 is 29: the float nearest to 0.29 is less than that.
    shares = [Fraction(str(ratio)) for ratio in (validation, test)]
    if min(shares) < 0 or sum(shares) >= 1:
        raise ConfigError(
            f"per_user_ratio: validation={validation} and test={test} have to be 0 or more "
            "and together less than 1"
        )
    lengths = interactions.history_lengths
    up_to = range(int(lengths.max(initial=0)) + 1)
    counts = [np.array([int(share * n) for n in up_to], np.int64)[lengths] for share in shares]
    parameters = {"validation_ratio": float(validation), "test_ratio": float(test)}
    empty_reason = f"no user has enough watches for a target at {validation} and {test} of them"
    part = _by_counts(interactions, *counts)
    return Split(interactions, part, "per-user-ratio", parameters, empty_reason)


def _last_of_each_user(interactions: Interactions, n: int) -> NDArray[np.int8]:
    counts = np.where(interactions.history_lengths > 2 * n, n, 0)
    return _by_counts(interactions, counts, counts)


def _by_counts(
    interactions: Interactions, n_validation: NDArray[np.int64], n_test: NDArray[np.int64]
) -> NDArray[np.int8]:
    """The part of each row, from how many targets each user ([n_users]) has at the end."""
    n_train = interactions.history_lengths - n_validation - n_test
    parts = np.tile(np.array([TRAIN, VALIDATION, TEST], dtype=np.int8), interactions.n_users)
    return np.repeat(parts, np.column_stack([n_train, n_validation, n_test]).ravel())
