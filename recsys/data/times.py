"""Points in time, in nanoseconds since 1970, from columns of any type."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recsys.data.ids import is_text
from recsys.data.options import TIME_UNITS, ReadOptions
from recsys.data.tables import INVALID, Times, to_python
from recsys.data.time_text import (
    Parts,
    are_numbers,
    find_rounded,
    parse_dates,
    parse_numbers,
    split_numbers,
)
from recsys.errors import ConfigError, DataError

_Ints = NDArray[np.int64]

_DAY: Final = 86_400
_TEN_YEARS: Final = 3_653 * _DAY
_YEAR_1980: Final = 315_532_800
_YEAR_1990: Final = 631_152_000
_YEAR_1995: Final = 788_918_400
_YEAR_2101: Final = 4_133_980_800

_NANOSECONDS: Final = {
    "s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1,
    "min": 60 * 10**9, "h": 3600 * 10**9, "D": _DAY * 10**9, "excel": _DAY * 10**9,
}  # fmt: skip
_NAMES: Final = {
    "s": "seconds since 1970", "ms": "milliseconds since 1970", "us": "microseconds since 1970",
    "ns": "nanoseconds since 1970", "min": "minutes since 1970", "h": "hours since 1970",
    "D": "days since 1970", "excel": "Excel's day numbers, read as UTC",
}  # fmt: skip
_BY_SIZE: Final = ("s", "ms", "us", "ns")
_ISO: Final = "ISO 8601, in UTC where there is no time zone"
_EXCEL_1970: Final = 25_569

POSITIONS: Final = "positions, not points in time"
"""Description of times that only give an order."""

_PLAUSIBLE: Final = {
    "s": (_YEAR_1990, _YEAR_2101),
    "ms": (_YEAR_1990 * 10**3, _YEAR_2101 * 10**3),
    "us": (_YEAR_1990 * 10**6, _YEAR_2101 * 10**6),
    "ns": (_YEAR_1995 * 10**9, _YEAR_2101 * 10**9),  # ticks of .NET, since the year 1, are less
    "excel": (32_874, 54_790),  # 1990 to 2050
    "%Y": (1900, 2101),
    "%Y%m%d": (19000101, 21010101),
    "%Y%m%d%H%M": (190001010000, 210101010000),
    "%Y%m%d%H%M%S": (19000101000000, 21010101000000),
    "%Y%m%d%H%M%S%f": (19000101000000000, 21010101000000000),  # with milliseconds
}
"""Units and formats of numbers, and where these are plausible, the end excluded."""

_TIMES_OF_DAY: Final = (" %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_EXAMPLES: Final = (
    *map("".join, product(("%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y"), ("", *_TIMES_OF_DAY))),
    "%a %b %d %H:%M:%S %z %Y",
    "%a, %d %b %Y %H:%M:%S %z",
)
"""Formats of dates that are only read if they are declared, for messages."""

Describe = Callable[[int], str]
"""Location and value of a row, for messages."""


def parse_times(
    column: pa.ChunkedArray | None, options: ReadOptions, describe: Describe | None = None
) -> Times | None:
    """Convert a column, [n], to points in time; those that cannot be parsed become `INVALID`.

    Values without a time zone are UTC. Numbers have the form in which they are plausible, unless
    `options` declare one. `describe` gives the location and value of a row, for messages.

    Raises:
        DataError: No form is plausible, or nothing fits the declared one.
        ConfigError: `time_format` is not a format.
    """
    if column is None:
        return None
    locate = describe or (lambda row: f"row {row}, column 'timestamp': {to_python(column[row])!r}")
    times = _parse(column, options, locate)
    if column.null_count < len(column) and not (times.ticks != INVALID).any():
        row = next(row for row, value in enumerate(column) if value.is_valid)
        declared = options.time_unit or options.time_format
        wrong = f"does not fit {declared!r}" if declared else "is not a time that can be read"
        raise DataError(f"{locate(row)} {wrong}; {_remedy(to_python(column[row]))}")
    return times


def _parse(column: pa.ChunkedArray, options: ReadOptions, locate: Describe) -> Times:
    kind, types, unit = column.type, pa.types, options.time_unit
    if options.time_format is not None:
        told = f"dates as {options.time_format}, in UTC where there is no time zone"
        times = _parse_format(column.cast(pa.large_string()), options.time_format, told)
        return replace(times, form=f"time_format = {options.time_format!r}")
    if is_text(kind):
        column = column.cast(pa.large_string())
        if unit is None and not are_numbers(column):
            times = _to_times(parse_dates(column), _NANOSECONDS["s"], _ISO)
            return replace(times, form="ISO 8601, such as 2024-05-31 10:00")
        times = _read_numbers(parse_numbers(column), unit, locate)
        return replace(times, rounded=find_rounded(column))
    if types.is_integer(kind) or types.is_decimal(kind) or types.is_null(kind):
        return _read_numbers(split_numbers(column), unit, locate)
    if types.is_floating(kind):
        return _read_numbers(_split_floats(column), unit, locate)
    if types.is_timestamp(kind) and unit is None:
        zone = f"with time zone {kind.tz}" if kind.tz else "without a time zone, read as UTC"
        parts = split_numbers(column.cast(pa.int64()))
        times = _to_times(parts, _NANOSECONDS[kind.unit], f"timestamps {zone}")
        if not 0 < times.ticks.max(initial=0) < 31 * _DAY * 10**9:
            return times
        wrong = "; all are in January 1970, as if numbers were converted with a wrong unit"
        return replace(times, description=times.description + wrong)
    wrong = "points in time" if unit is None else "numbers; remove time_unit"
    raise DataError(
        f"{locate(0)}: the column is of type {kind} and does not hold {wrong}, or name another "
        "column with columns="
    )


def _parse_format(text: pa.ChunkedArray, form: str, description: str) -> Times:
    """Parse text with a format of `strptime`, each distinct value once."""
    encoded = text.combine_chunks().dictionary_encode()
    distinct = encoded.dictionary.to_pandas()
    try:
        times = pd.Series(pd.to_datetime(distinct, format=form, utc=True, errors="coerce"))
    except ValueError as error:
        raise ConfigError(f"time_format {form!r} is not a format of strptime: {error}") from error
    ticks = times.dt.tz_localize(None).to_numpy().astype(np.int64)
    rows = np.array(encoded.indices.fill_null(len(distinct)))
    parts = np.append(ticks, INVALID)[rows], np.zeros(1, np.int64)
    return _to_times(parts, _NANOSECONDS[times.dt.unit], description)


def _split_floats(column: pa.ChunkedArray) -> Parts:
    values = column.cast(pa.float64()).fill_null(np.nan).to_numpy()
    is_valid = np.abs(values) < 2.0**63  # false for NaN
    values = np.where(is_valid, values, 0)
    floor = np.floor(values)
    # A float below 2**33 holds six digits after the point.
    grid = np.array([1, 1e3, 1e6, 1e9])[np.searchsorted([2.0**23, 2.0**33, 2.0**43], values)]
    billionths = (np.rint((values - floor) * (1e9 / grid)) * grid).astype(np.int64)
    return np.where(is_valid, floor.astype(np.int64), INVALID), billionths


def _read_numbers(parts: Parts, unit: str | None, locate: Describe) -> Times:
    """Convert numbers to points in time, by their unit or by what most of them can be."""
    whole, billionths = parts
    sample = whole[whole != INVALID]
    sample = sample[:: max(1, len(sample) >> 16)]
    if unit is not None or not len(sample):
        return _read_unit(parts, unit or "s")
    fits = {form: (sample >= low) & (sample < end) for form, (low, end) in _PLAUSIBLE.items()}
    n_of = {unit: np.count_nonzero(fits[unit]) for unit in _BY_SIZE}
    if 2 * sum(n_of.values()) > len(sample):
        return _read_by_size(parts, max(n_of, key=n_of.__getitem__))
    for form, (low, end) in _PLAUSIBLE.items():
        if 2 * np.count_nonzero(fits[form]) > len(sample):
            if form == "excel":
                return _read_unit(parts, form)
            is_other = (whole < low) | (whole >= end) | (billionths > 0)
            text = pa.array(whole, mask=is_other).cast(pa.large_string())
            told = f"dates such as {sample[0]}, read as UTC"
            return _parse_format(pa.chunked_array([text]), form, told)
    if np.quantile(np.abs(sample), 0.75) < 10_000:
        parts = np.where(billionths == 0, whole, INVALID), np.zeros(1, np.int64)
        return _to_times(parts, _NANOSECONDS["s"], POSITIONS)
    others = np.sort(sample[~np.any([fits[unit] for unit in _BY_SIZE], axis=0)])
    median = int(others[len(others) // 2])
    raise DataError(
        f"{locate(int(np.flatnonzero(whole == median)[0]))} is not from 1990 to 2100 in seconds, "
        f"milliseconds, microseconds or nanoseconds since 1970; {_remedy(median)}"
    )


def _read_unit(parts: Parts, unit: str) -> Times:
    whole, billionths = parts
    if unit == "excel":
        whole = np.where(whole == INVALID, INVALID, whole - _EXCEL_1970)
    return _to_times((whole, billionths), _NANOSECONDS[unit], _NAMES[unit])


def _read_by_size(parts: Parts, main: str) -> Times:
    """Read each number in the unit in which it is plausible, and others in the main one."""
    whole, _ = parts
    low, end = _PLAUSIBLE[main]
    if low <= whole.min() and whole.max() < end:
        return _read_unit(parts, main)
    units = np.full(len(whole), _NANOSECONDS[main])
    for unit in _BY_SIZE:
        low, end = _PLAUSIBLE[unit]
        units[(whole >= low) & (whole < end)] = _NANOSECONDS[unit]
    n_others = np.count_nonzero(units != _NANOSECONDS[main])
    others = f"; {n_others:,} in other units" if n_others else ""
    return _to_times(parts, units, f"{_NAMES[main]}{others}")


def _to_times(parts: Parts, units: _Ints | int, description: str) -> Times:
    """Convert numbers of units in nanoseconds; times before 1677 or after 2262 are at these ends.

    Fractions of minutes, hours and days are rounded to milliseconds.
    """
    whole, billionths = parts
    limit = (2**63 - 1) // units - 1
    ticks = np.clip(whole, -limit, limit) * units
    if billionths.any():
        grid = np.where(np.asarray(units) > 10**9, 10**6, 1)
        ticks += np.rint(billionths * (units / 10**9) / grid).astype(np.int64) * grid
    return Times(np.where(whole == INVALID, INVALID, ticks), description)


def format_times(ticks: _Ints) -> NDArray[np.str_]:
    """Nanoseconds since 1970 in ISO 8601, [n]; fractions of a second only where there are some."""
    units = (("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1))
    unit, size = next(pair for pair in units if not (ticks % pair[1]).any())
    whole = np.datetime_as_string((ticks // 10**9).astype("datetime64[s]"))
    times = (ticks // size).astype(f"datetime64[{unit}]")
    return np.where(ticks % 10**9 == 0, whole, np.datetime_as_string(times))


def _remedy(value: object) -> str:
    """What to declare so that times can be read, with an example for a value that is not read."""
    text = str(value).strip()
    if re.fullmatch("[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?", text):
        return (
            "it is a time of day: join it with the date in one column, or use the date alone with "
            'columns = {timestamp = "..."}'
        )
    times = {form: pd.to_datetime(text, format=form, errors="coerce") for form in _EXAMPLES}
    name, found = "time_format", [form for form in times if not pd.isna(times[form])]
    if isinstance(value, int | float):
        seconds = {unit: value * _NANOSECONDS[unit] / 10**9 for unit in ("s", "ms", "us", "D")}
        name, found = "time_unit", [u for u in seconds if _YEAR_1990 <= seconds[u] < _YEAR_2101]
        if 190001 <= value <= 210012:
            name, found = "time_format", ["%Y%m"]
    example = f", such as {name} = {' or '.join(map(repr, found))}" if found else ""
    return (
        f"declare time_unit ({', '.join(TIME_UNITS)}) for numbers, or time_format, as of "
        f"strptime, for text{example}"
    )


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
    is_zero = (seconds >= 0) & (seconds < 2 * _DAY) & (np.median(sample) > _YEAR_1980)
    low, high = np.quantile(sample[(sample >= 2 * _DAY) | ~is_zero.any()], [0.25, 0.75])
    margin = max(_TEN_YEARS, 3 * (high - low))
    is_near = (seconds >= low - margin) & (seconds <= high + margin) & ~is_zero
    return np.asarray(is_near | ~is_valid)
