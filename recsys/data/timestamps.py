"""Points in time, as people write them."""

from __future__ import annotations

import math
import operator
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.data.interactions import Interactions
from recsys.errors import ConfigError, DataError

TimestampLike = int | str | datetime
"""Seconds since 1970, or text such as `2015-03-31` or `2015-03-31 12:00`, or a datetime; UTC
where there is no time zone."""


def to_unix(moment: TimestampLike) -> int:
    """The first whole second at or after a moment.

    Raises:
        ConfigError: it is no moment.

    Example:
        >>> to_unix("1970-01-02"), to_unix(86_400)
        (86400, 86400)
    """
    try:
        if not isinstance(moment, str | datetime):
            return operator.index(moment)
        # What stands for no time, such as "" or "NaT", has a timestamp that is not a number.
        return math.ceil(pd.Timestamp(moment).timestamp())
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{moment!r} is not a time: write a date (2015-03-31), a date and time "
            "(2015-03-31 12:00), or whole seconds since 1970"
        ) from error


def require_timestamps(interactions: Interactions, purpose: str) -> NDArray[np.int64]:
    """When each row was watched, [n].

    Args:
        interactions: who watched what.
        purpose: what needs the times, for messages.

    Raises:
        DataError: the times are not known.
    """
    if interactions.timestamp is None:
        raise DataError(f"{purpose} needs times: the ratings have no column 'timestamp'")
    return interactions.timestamp


def time_range(timestamp: NDArray[np.int64]) -> str:
    """From when to when times reach, for messages.

    Example:
        >>> time_range(np.array([86_400, 0]))
        'from 1970-01-01T00:00:00 to 1970-01-02T00:00:00 UTC'
    """
    if not len(timestamp):
        return "empty"
    first, last = np.datetime64(int(timestamp.min()), "s"), np.datetime64(int(timestamp.max()), "s")
    return f"from {first} to {last} UTC"
