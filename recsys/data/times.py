"""Points in time from columns of any type, at the resolution of their source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.data.ids import is_text
from recsys.data.options import TIME_UNITS, ReadOptions
from recsys.data.tables import INVALID, Times
from recsys.data.time_text import cast_text, parse_text
from recsys.errors import ConfigError, DataError

_Ints = NDArray[np.int64]

_DAY: Final = 86_400
_TEN_YEARS: Final = 3_653 * _DAY
_YEAR_1980: Final = 315_532_800
_YEAR_1990: Final = 631_152_000
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
_ISO: Final = "ISO 8601, in UTC where there is no time zone"
_EXCEL_1970: Final = 25_569

POSITIONS: Final = "positions, not points in time"
"""Description of times that only give an order."""

_SIZES: Final = np.outer([1, 10**3, 10**6, 10**9], [_YEAR_1990, _YEAR_2101]).ravel()
"""First and last numbers that are plausible as seconds, as milliseconds and so on."""
_SIZES[-2] = 788_918_400 * 10**9  # of 1995: ticks of .NET, since the year 1, would be of 1990
_FORMS: Final = {
    "excel": (32_874, 54_790),  # 1990 to 2050
    r"\1-01-01": (1900, 2101),
    r"\1-\2-\3": (19000101, 21010101),
    r"\1-\2-\3 \4:\5": (190001010000, 210101010000),
    r"\1-\2-\3 \4:\5:\6": (19000101000000, 21010101000000),
    r"\1-\2-\3 \4:\5:\6.\7": (19000101000000000, 21010101000000000),
}
"""Other forms of dates as numbers, how to write them as text, and where they are plausible."""

_EXAMPLES: Final = (
    *map("".join, product(("%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y"), ("", " %H:%M", " %H:%M:%S"))),
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
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    locate = describe or (lambda row: f"row {row}, column 'timestamp': {column[row].as_py()!r}")
    times = _parse(column, options, locate)
    if column.null_count < len(column) and not (times.ticks != INVALID).any():
        row = next(row for row, value in enumerate(column) if value.is_valid)
        declared = options.time_unit or options.time_format
        wrong = f"does not fit {declared!r}" if declared else "is not a time that can be read"
        raise DataError(f"{locate(row)} {wrong}; {_remedy(column[row].as_py())}")
    return times


def _parse(column: pa.ChunkedArray, options: ReadOptions, locate: Describe) -> Times:
    kind, types, unit = column.type, pa.types, options.time_unit
    if options.time_format is not None:
        return _parse_format(column.cast(pa.large_string()).combine_chunks(), options.time_format)
    if is_text(kind) or types.is_decimal(kind):
        return _parse_text(column.cast(pa.large_string()), options, locate)
    if types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind):
        return _read_numbers(*_to_numbers(column), unit, locate)
    if types.is_date(kind) and unit is None:
        column = column.cast(pa.timestamp("s" if kind == pa.date32() else "ms"))
        return replace(_parse(column, options, locate), description="dates, read as UTC")
    if types.is_timestamp(kind) and unit is None:
        ticks, per_second = _to_ints(column), 10**9 // _NANOSECONDS[kind.unit]
        zone = f"with time zone {kind.tz}" if kind.tz else "without a time zone, read as UTC"
        if 0 < ticks.max(initial=0) < 31 * _DAY * per_second:
            zone += "; all are in January 1970, as if numbers were converted with a wrong unit"
        return Times(ticks, per_second, f"timestamps {zone}")
    wrong = "points in time" if unit is None else "numbers; remove time_unit"
    raise DataError(
        f"{locate(0)}: the column is of type {kind} and does not hold {wrong}, or name another "
        "column with columns="
    )


def _parse_format(column: pa.Array, form: str) -> Times:
    """Parse text with a format of `strptime`, each distinct value once."""
    encoded = column.dictionary_encode()
    text = encoded.dictionary.to_pandas()
    try:
        times = pd.Series(pd.to_datetime(text, format=form, utc=True, errors="coerce"))
    except ValueError as error:
        raise ConfigError(f"time_format {form!r} is not a format of strptime: {error}") from error
    distinct = times.dt.tz_localize(None).to_numpy("datetime64[us]").astype(np.int64)
    per_second = 10**6 if (distinct[distinct != INVALID] % 10**6).any() else 1
    distinct = np.where(distinct == INVALID, INVALID, distinct // (10**6 // per_second))
    ticks = np.append(distinct, INVALID)[np.array(encoded.indices.fill_null(len(distinct)))]
    return Times(ticks, per_second, f"dates as {form}, in UTC where there is no time zone")


def _parse_text(column: pa.ChunkedArray, options: ReadOptions, locate: Describe) -> Times:
    """Parse text that holds dates, numbers, or both."""
    cast = cast_text(column)
    is_odd = pc.and_(cast.is_null(), column.is_valid())
    unit_of_dates = _NANOSECONDS[cast.type.unit] if pa.types.is_timestamp(cast.type) else 0
    if not pc.any(is_odd).as_py():
        times = _parse(cast, options, locate)
        return replace(times, description=_ISO) if unit_of_dates else times
    fields = np.stack(np.broadcast_arrays(*_to_numbers(cast), unit_of_dates, 0))
    fields[:, np.flatnonzero(is_odd)] = parse_text(column.filter(is_odd))
    whole, billionths, units, is_rounded = fields
    is_number = units == 0
    units = np.where(is_number, _sizes(whole), units)
    is_valid = whole != INVALID
    is_plausible = is_valid & (units > 0)
    is_most = 2 * np.count_nonzero(is_plausible) > np.count_nonzero(is_valid)
    if options.time_unit is None and is_most and not is_number.all():
        times = _to_times(np.where(is_plausible, whole, INVALID), billionths, units, _ISO)
        if n_numbers := np.count_nonzero(is_number & is_plausible):
            times = replace(times, description=f"{_ISO}; {n_numbers:,} are numbers since 1970")
    else:
        numbers = np.where(is_number, whole, INVALID)
        times = _read_numbers(numbers, billionths, options.time_unit, locate)
    return replace(times, rounded=is_rounded > 0) if is_rounded.any() else times


def _to_numbers(column: pa.ChunkedArray) -> tuple[_Ints, _Ints]:
    """Convert integers, floats or timestamps, [n], to whole parts, rounded down, and billionths.

    Billionths are [n], or [1] if there are none.
    """
    if not pa.types.is_floating(column.type):
        return _to_ints(column), np.zeros(1, np.int64)
    values = column.cast(pa.float64()).fill_null(np.nan).to_numpy()
    is_valid = np.abs(values) < 2.0**63  # false for NaN
    values = np.where(is_valid, values, 0)
    floor = np.floor(values)
    # A float below 2**33 holds six digits after the point.
    grid = np.array([1, 1e3, 1e6, 1e9])[np.searchsorted([2.0**23, 2.0**33, 2.0**43], values)]
    billionths = (np.rint((values - floor) * (1e9 / grid)) * grid).astype(np.int64)
    return np.where(is_valid, floor.astype(np.int64), INVALID), billionths


def _to_ints(column: pa.ChunkedArray) -> _Ints:
    """Convert integers or timestamps, [n], to int64; `INVALID` if missing or too large."""
    if column.type == pa.uint64():
        column = pc.if_else(pc.less(column, pa.scalar(2**63, pa.uint64())), column, None)
    column = column.cast(pa.int64())
    values: _Ints = (column.fill_null(INVALID) if column.null_count else column).to_numpy()
    return values


def _read_numbers(whole: _Ints, billionths: _Ints, unit: str | None, locate: Describe) -> Times:
    """Convert numbers, [n], to points in time, by their unit or by what most of them can be."""
    sample = whole[whole != INVALID]
    sample = sample[:: max(1, len(sample) >> 16)]
    if unit is not None or not len(sample):
        return _read_unit(whole, billionths, unit or "s")
    for form, (low, end) in _FORMS.items():
        if 2 * np.count_nonzero((sample >= low) & (sample < end)) > len(sample):
            if form == "excel":
                return _read_unit(whole, billionths, form)
            is_other = (whole < low) | (whole >= end) | (billionths > 0)
            encoded = pa.array(whole, mask=is_other).dictionary_encode()
            text = encoded.dictionary.cast(pa.large_string())
            text = pc.replace_substring_regex(text, "(....)(..)?(..)?(..)?(..)?(..)?(...)?", form)
            times = _parse_text(pa.chunked_array([text]), ReadOptions(), locate)
            rows = np.array(encoded.indices.fill_null(len(text)))
            told = f"dates such as {sample[0]}, read as UTC"
            return replace(times, ticks=np.append(times.ticks, INVALID)[rows], description=told)
    sizes = _sizes(sample)
    if 2 * np.count_nonzero(sizes) > len(sample):
        counts = {unit: np.count_nonzero(sizes == _NANOSECONDS[unit]) for unit in _NANOSECONDS}
        return _read_by_size(whole, billionths, max(counts, key=lambda unit: counts[unit]))
    if np.quantile(np.abs(sample), 0.75) < 10_000:
        ticks = np.where(billionths == 0, whole, INVALID)
        return Times(ticks, 1, POSITIONS)
    median = int(np.sort(sample)[len(sample) // 2])
    raise DataError(
        f"{locate(int(np.flatnonzero(whole == median)[0]))} is not from 1990 to 2100 in seconds, "
        f"milliseconds, microseconds or nanoseconds since 1970; {_remedy(median)}"
    )


def _sizes(whole: _Ints) -> _Ints:
    """Nanoseconds of the unit, up to seconds, in which numbers, [n], are plausible; 0 if none."""
    units = np.array([0, 10**9, 0, 10**6, 0, 10**3, 0, 1, 0])
    return units[np.searchsorted(_SIZES, whole, side="right")]


def _read_by_size(whole: _Ints, billionths: _Ints, main: str) -> Times:
    """Read each number, [n], in the unit in which it is plausible, and others in the main one."""
    nanoseconds = _NANOSECONDS[main]
    if (_sizes(np.array([whole.min(), whole.max()])) == nanoseconds).all():
        return _read_unit(whole, billionths, main)
    units = _sizes(whole)
    units[units == 0] = nanoseconds
    n_others = np.count_nonzero(units != nanoseconds)
    others = f"; {n_others:,} in other units" if n_others else ""
    return _to_times(whole, billionths, units, f"{_NAMES[main]}{others}")


def _read_unit(whole: _Ints, billionths: _Ints, unit: str) -> Times:
    if unit == "excel":
        whole = np.where(whole == INVALID, INVALID, whole - _EXCEL_1970)
    return _to_times(whole, billionths, np.array(_NANOSECONDS[unit]), _NAMES[unit])


def _to_times(whole: _Ints, billionths: _Ints, units: _Ints, description: str) -> Times:
    """Convert numbers, [n], of units in nanoseconds, to the coarsest ticks that hold them exactly.

    Fractions of minutes, hours and days are rounded to milliseconds.
    """
    per_second = max(1, 10**9 // int(units[units > 0].min()))
    grid = np.where(units > 10**9, 10**6, 1)
    rest = np.rint(billionths * (units / 10**9) / grid).astype(np.int64) * grid
    while (rest % (10**9 // per_second)).any():
        per_second *= 1000
    factor = np.maximum(per_second * units // 10**9, 1)
    if (factor > 1).any() or rest.any():
        limit = (2**63 - 1) // factor - 1
        fits = (whole >= -limit) & (whole <= limit)
        ticks = np.where(fits, whole, 0) * factor + rest // (10**9 // per_second)
        whole = np.where(fits, ticks, INVALID)
    return Times(whole, per_second, description)


def _remedy(value: object) -> str:
    """What to declare so that times can be read, with an example for a value that is not read."""
    if isinstance(value, int | float):
        name = "time_unit"
        seconds = {unit: value * _NANOSECONDS[unit] / 10**9 for unit in _NANOSECONDS}
        usual = ("s", "ms", "us", "D")
        found = [unit for unit in usual if _YEAR_1990 <= seconds[unit] < _YEAR_2101]
    else:
        name, text = "time_format", str(value).strip()
        times = {form: pd.to_datetime(text, format=form, errors="coerce") for form in _EXAMPLES}
        found = [form for form in times if not pd.isna(times[form])]
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
