"""Parsing of points in time: numbers of any unit, text and datetimes, at their own resolution."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recsys.data.options import ReadOptions
from recsys.data.tables import INVALID, Times

_MAX_SECONDS: Final = 100_000_000_000


def parse_times(column: pa.ChunkedArray | None, options: ReadOptions) -> Times | None:  # noqa: ARG001
    """Convert a column, [n], to points in time; those that cannot be parsed become `INVALID`."""
    if column is None:
        return None
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _parse_datetimes(column)
    numbers = pd.to_numeric(column.to_pandas(), errors="coerce")
    if pa.types.is_integer(kind):
        return _parse_numbers(column.fill_null(INVALID).cast(pa.int64(), safe=False).to_numpy())
    numbers = numbers.astype(np.float64)
    if numbers.notna().sum() * 2 < len(numbers) and not pa.types.is_floating(kind):
        return _parse_datetimes(column, format="ISO8601")
    is_valid = (numbers % 1 == 0) & (numbers.abs() < 2.0**63)
    return _parse_numbers(numbers.where(is_valid).to_numpy())


def _parse_numbers(numbers: NDArray[Any]) -> Times:
    is_milliseconds = 2 * np.count_nonzero(numbers > _MAX_SECONDS) > len(numbers)
    is_valid = numbers > INVALID
    ticks = np.where(is_valid, numbers, INVALID).astype(np.int64)
    if is_milliseconds:
        return Times(ticks, 1000, "milliseconds since 1970")
    return Times(ticks, 1, "seconds since 1970")


def _parse_datetimes(column: pa.ChunkedArray, **options: Any) -> Times:
    times = pd.to_datetime(column.to_pandas(), utc=True, errors="coerce", **options)
    ticks = times.dt.tz_localize(None).to_numpy("datetime64[us]")
    values = np.where(np.isnat(ticks), INVALID, ticks.astype(np.int64))
    return Times(values, 1_000_000, "dates and times")
