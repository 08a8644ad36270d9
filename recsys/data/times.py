"""Points in time from columns of any type, at the resolution of their source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recsys.data.ids import is_text
from recsys.data.options import ReadOptions
from recsys.data.tables import INVALID, Times
from recsys.data.time_numbers import (
    DAY,
    PER_SECOND,
    POSITIONS,
    YEAR_1990,
    YEAR_2101,
    Numbers,
    merge,
    read_by_size,
    read_compact,
    read_numbers,
    remedy,
    split_floats,
    to_ints,
)
from recsys.data.time_text import parse_text
from recsys.errors import ConfigError, DataError

_TEN_YEARS: Final = 3_653 * DAY
_YEAR_1980: Final = 315_532_800

Describe = Callable[[int], str]
"""Location and value of a row, for messages."""


def parse_times(
    column: pa.ChunkedArray | None, options: ReadOptions, describe: Describe | None = None
) -> Times | None:
    """Convert a column, [n], to points in time; those that cannot be parsed become `INVALID`.

    Values without a time zone are UTC. The unit of numbers is the one in which they are plausible,
    unless `options` declare it.

    Args:
        column: Values of any Arrow type, or None.
        options: `time_unit` and `time_format`.
        describe: Gives the location and value of a row, for messages.

    Raises:
        DataError: No unit or form is plausible, or nothing fits the declared one.
        ConfigError: `time_format` is not a format.
    """
    if column is None:
        return None
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    locate = describe or (lambda row: f"row {row}, column 'timestamp': {column[row].as_py()!r}")
    times = _parse(column, options, locate)
    if column.null_count < len(column) and not (times.ticks != INVALID).any():
        row = next(row for row, value in enumerate(column) if value.is_valid)
        declared = options.time_unit or options.time_format
        wrong = f"does not fit {declared!r}" if declared else "is not a time that can be read"
        raise DataError(f"{locate(row)} {wrong}; {remedy(column[row].as_py())}")
    return times


def _parse(column: pa.ChunkedArray, options: ReadOptions, locate: Describe) -> Times:
    kind, types = column.type, pa.types
    if types.is_null(kind):
        return Times(np.full(len(column), INVALID), 1, "no values")
    if is_text(kind) or types.is_decimal(kind) or options.time_format is not None:
        return _parse_text(column.cast(pa.large_string()), options, locate)
    if types.is_integer(kind):
        return read_numbers(Numbers(to_ints(column)), options.time_unit, locate)
    if types.is_floating(kind):
        values = column.cast(pa.float64()).fill_null(np.nan).to_numpy()
        return read_numbers(split_floats(values), options.time_unit, locate)
    if (types.is_timestamp(kind) or types.is_date(kind)) and options.time_unit is None:
        return _parse_typed(column)
    wrong = "points in time; " if options.time_unit is None else "numbers; remove time_unit, or "
    raise DataError(
        f"{locate(0)}: the column is of type {kind} and does not hold {wrong}name another column "
        "with columns="
    )


def _parse_typed(column: pa.ChunkedArray) -> Times:
    kind = column.type
    if pa.types.is_date(kind):
        times = _parse_typed(column.cast(pa.timestamp("s" if kind == pa.date32() else "ms")))
        return replace(times, description="dates, read as UTC")
    zone = "without a time zone, read as UTC" if kind.tz is None else f"with time zone {kind.tz}"
    per_second, ticks = PER_SECOND[kind.unit], to_ints(column)
    if 0 < ticks.max(initial=0) < 31 * DAY * per_second:
        zone += "; all are in January 1970, as if numbers were converted with a wrong unit"
    return Times(ticks, per_second, f"timestamps {zone}")


def _parse_text(column: pa.ChunkedArray, options: ReadOptions, locate: Describe) -> Times:
    """Parse text that holds dates, numbers, or both."""
    if options.time_format is not None:
        return _parse_format(column, options.time_format)
    text = parse_text(column)
    dates, numbers = text.dates, text.numbers
    n_dates = np.count_nonzero(dates.ticks != INVALID)
    n_numbers = np.count_nonzero(numbers.whole != INVALID)
    if options.time_unit is not None or not n_dates:
        times = read_numbers(numbers, options.time_unit, locate)
        return replace(times, rounded=text.rounded)
    if not n_numbers:
        return dates
    few = n_numbers <= n_dates
    times = _read_plausible(numbers) if few else read_numbers(numbers, None, locate)
    if times.description == POSITIONS:
        return times
    return replace(merge([dates, times]), rounded=text.rounded)


def _read_plausible(numbers: Numbers) -> Times:
    """Read the numbers that are plausible one by one, such as a few among dates."""
    compact = read_compact(numbers.only_whole())
    others = np.where(compact.ticks == INVALID, numbers.whole, INVALID)
    times = read_by_size(replace(numbers, whole=others))
    seconds = times.seconds
    is_plausible = (seconds >= YEAR_1990) & (seconds < YEAR_2101)
    times = replace(times, ticks=np.where(is_plausible, times.ticks, INVALID))
    return merge([compact, times])


def _parse_format(column: pa.ChunkedArray, form: str) -> Times:
    """Parse text with a format of `strptime`, each distinct value once."""
    encoded = column.combine_chunks().dictionary_encode()
    try:
        times = pd.Series(
            pd.to_datetime(encoded.dictionary.to_pandas(), format=form, utc=True, errors="coerce")
        )
    except ValueError as error:
        raise ConfigError(f"time_format {form!r} is not a format of strptime: {error}") from error
    distinct = times.dt.tz_localize(None).to_numpy("datetime64[us]").astype(np.int64)
    per_second = 10**6 if (distinct[distinct != INVALID] % 10**6).any() else 1
    distinct = np.where(distinct == INVALID, INVALID, distinct // (10**6 // per_second))
    ticks = np.append(distinct, INVALID)[np.array(encoded.indices.fill_null(len(distinct)))]
    return Times(ticks, per_second, f"text of the form {form}, in UTC where there is no time zone")


def is_near_the_others(times: Times) -> NDArray[np.bool_] | None:
    """Which times, [n], are not far outside the bulk; None if all are within ten years.

    Far outside is farther from the quartiles than ten years and than three times the distance
    between them, or in the first two days of 1970 while most are after 1980.
    """
    seconds = times.seconds
    is_valid = seconds != INVALID
    valid = seconds if is_valid.all() else seconds[is_valid]
    if not len(valid) or valid.max() - valid.min() <= _TEN_YEARS:
        return None
    sample = valid[:: max(1, len(valid) >> 17)]
    is_zero = (seconds >= 0) & (seconds < 2 * DAY) & (np.median(sample) > _YEAR_1980)
    low, high = np.quantile(sample[(sample >= 2 * DAY) | ~is_zero.any()], [0.25, 0.75])
    margin = max(_TEN_YEARS, 3 * (high - low))
    is_near = (seconds >= low - margin) & (seconds <= high + margin) & ~is_zero
    return np.asarray(is_near | ~is_valid)
