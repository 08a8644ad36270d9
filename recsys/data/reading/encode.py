"""Ratings as numbers: ids as dense codes, ratings as float32, times as int64 seconds."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recsys import columns as names
from recsys.data.reading.ids import Coded, encode_ids
from recsys.data.reading.raw import RawRatings

UNREADABLE: Final = np.iinfo(np.int64).min
"""Stands where a time cannot be read."""


@dataclass(frozen=True)
class CodedRatings:
    """Ratings as numbers, in the order of the source; `rating`, `timestamp` None where unknown."""

    user: Coded
    item: Coded
    rating: NDArray[np.float32] | None
    """[n]; NaN where it cannot be read."""
    timestamp: NDArray[np.int64] | None
    """Seconds since 1970, [n]; `UNREADABLE` where it cannot be read."""


def encode(raw: RawRatings) -> CodedRatings:
    """Turn ratings as their source writes them into numbers; nothing is judged yet."""

    def encode_id(name: str) -> Coded:
        return encode_ids(raw.columns[name], raw.typed)

    # Each mostly waits for memory, and lets the others work the while.
    with ThreadPoolExecutor() as pool:
        user, item = (pool.submit(encode_id, name) for name in (names.USER_ID, names.ITEM_ID))
        rating = pool.submit(_if_there, encode_ratings, raw.columns.get(names.RATING))
        timestamp = pool.submit(_if_there, encode_times, raw.columns.get(names.TIMESTAMP))
    return CodedRatings(user.result(), item.result(), rating.result(), timestamp.result())


def _if_there(encode_column: Callable[[Any], Any], column: pa.ChunkedArray | None) -> Any:
    return None if column is None else encode_column(column)


def encode_ratings(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """Ratings, [n], as float32; NaN where there is none that can be read."""
    if _is_number(column.type):
        return _to_numpy(column.cast(pa.float32(), safe=False), np.nan)
    return pd.to_numeric(_to_pandas(column), errors="coerce").to_numpy(np.float32)


def encode_times(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Times, [n], as whole seconds since 1970, UTC; `UNREADABLE` where they cannot be read.

    Numbers are seconds, or milliseconds where most are too large to be seconds; text is numbers
    or ISO 8601, as most of it is. What has no time zone is UTC.
    """
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _seconds(pd.to_datetime(_to_pandas(column), utc=True, errors="coerce"))
    if pa.types.is_integer(kind):
        return _to_seconds(_to_numpy(column.cast(pa.int64(), safe=False), UNREADABLE))
    numbers = pd.to_numeric(_to_pandas(column), errors="coerce").astype(np.float64)
    if numbers.notna().sum() * 2 < len(numbers) and not _is_number(kind):
        times = pd.to_datetime(_to_pandas(column), utc=True, errors="coerce", format="ISO8601")
        return _seconds(times)
    # A time with a fraction is no mistake of ours to mend, nor is one beyond what 64 bits hold.
    whole = (numbers % 1 == 0) & (numbers.abs() < 2.0**63)
    return _to_seconds(numbers.where(whole).to_numpy())


_LAST_SECOND = 100_000_000_000
"""Larger numbers are milliseconds: as seconds they would lie after the year 5000."""


def _to_seconds(numbers: NDArray[Any]) -> NDArray[np.int64]:
    """Whole numbers, [n], as seconds; NaN and `UNREADABLE` stay unreadable."""
    # NaN compares as false; and no median: it would copy them all, and take longer than reading.
    in_milliseconds = 2 * np.count_nonzero(numbers > _LAST_SECOND) > len(numbers)
    readable = numbers > UNREADABLE
    seconds = numbers // 1000 if in_milliseconds else numbers
    if readable.all():
        return seconds.astype(np.int64, copy=False)
    return np.where(readable, seconds, UNREADABLE).astype(np.int64)


def _seconds(times: pd.Series[Any]) -> NDArray[np.int64]:
    """Moments in UTC, [n], as the whole seconds that they lie in."""
    plain = times.dt.tz_localize(None).to_numpy("datetime64[s]")
    return np.where(np.isnat(plain), UNREADABLE, plain.astype(np.int64))


def _is_number(kind: pa.DataType) -> bool:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    return any(test(kind) for test in tests)


def _to_numpy(column: pa.ChunkedArray, missing: float) -> NDArray[Any]:
    values: NDArray[Any] = (column.fill_null(missing) if column.null_count else column).to_numpy()
    return values


def _to_pandas(column: pa.ChunkedArray) -> pd.Series[Any]:
    values: pd.Series[Any] = column.to_pandas()
    return values
