"""Points in time from numbers: seconds, milliseconds, dates such as 20200704, Excel's days, years.

Without a declared unit, the form is the one in which the numbers are plausible.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.data.options import TIME_UNITS
from recsys.data.tables import INVALID, Times
from recsys.errors import DataError

_Ints = NDArray[np.int64]
_Mask = NDArray[np.bool_]

POSITIONS: Final = "positions, not points in time"
YEAR_1990: Final = 631_152_000
YEAR_2101: Final = 4_133_980_800
_YEAR_1995: Final = 788_918_400
DAY: Final = 86_400

_NANOSECONDS: Final = {
    "s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1,
    "min": 60 * 10**9, "h": 3600 * 10**9, "D": DAY * 10**9, "excel": DAY * 10**9,
}  # fmt: skip
NAMES: Final = {
    "s": "seconds since 1970", "ms": "milliseconds since 1970", "us": "microseconds since 1970",
    "ns": "nanoseconds since 1970", "min": "minutes since 1970", "h": "hours since 1970",
    "D": "days since 1970", "excel": "Excel's day numbers, read as UTC",
}  # fmt: skip
PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_LIMITS: Final = np.array([10**11, 10**14, 10**17])
"""Smaller numbers are seconds, milliseconds and microseconds; larger ones are nanoseconds."""
_COMPACT: Final = (
    (19000101, 21001231, 10**9, "YYYYMMDD"),
    (190001010000, 210012312359, 10**5, "YYYYMMDDhhmm"),
    (19000101000000, 21001231235959, 10**3, "YYYYMMDDhhmmss"),
    (19000101000000000, 21001231235959999, 1, "YYYYMMDDhhmmss and milliseconds"),
)
"""Dates written as one number: range, factor to the last form, and name."""
_EXCEL_1970: Final = 25_569
_EXCEL_RANGE: Final = (32_874, 54_789)
"""Excel's day numbers of 1990 and of 2050."""
_UNITS: Final = tuple(PER_SECOND)
"""Units by size."""
_SAMPLE: Final = 1 << 16

_CLOCKS: Final = (
    ("", ""),
    (r" \d+:\d\d", " %H:%M"),
    (r" \d+:\d\d:\d\d", " %H:%M:%S"),
    (r" \d+:\d\d [AaPp][Mm]", " %I:%M %p"),
    (r" \d+:\d\d:\d\d [AaPp][Mm]", " %I:%M:%S %p"),
)
_EXAMPLES: Final = (
    *((rf"\d+/\d+/\d{{4}}{clock}$", f"%m/%d/%Y{form}") for clock, form in _CLOCKS),
    *((rf"\d+/\d+/\d{{4}}{clock}$", f"%d/%m/%Y{form}") for clock, form in _CLOCKS),
    *((rf"\d+\.\d+\.\d{{4}}{clock}$", f"%d.%m.%Y{form}") for clock, form in _CLOCKS),
    *((rf"\d+-\d+-\d{{4}}{clock}$", f"%d-%m-%Y{form}") for clock, form in _CLOCKS),
    (r"\w{3} \w{3} \d+ [\d:]+ [+-]\d{4} \d{4}$", "%a %b %d %H:%M:%S %z %Y"),
    (r"\w{3}, \d+ \w{3} \d{4} [\d:]+ [+-]\d{4}$", "%a, %d %b %Y %H:%M:%S %z"),
)
"""Formats of dates that can be read in more than one way, for messages."""


@dataclass(frozen=True, eq=False)
class Numbers:
    """Numbers as whole parts, rounded down, and billionths."""

    whole: _Ints
    """[n]; `INVALID` if there is no number."""
    billionths: _Ints | None = None
    """[n]; None if all numbers are whole."""
    is_float: bool = False
    """Whether they have only 53 bits, which hold no more than microseconds since 1970."""

    def only_whole(self) -> _Ints:
        """The whole numbers; others are `INVALID`."""
        if self.billionths is None:
            return self.whole
        return np.where(self.billionths == 0, self.whole, INVALID)


def split_floats(values: NDArray[np.float64]) -> Numbers:
    """Split floats, [n], into whole parts and billionths; NaN and large values are invalid."""
    is_valid = np.abs(values) < 2.0**63  # false for NaN
    floor = np.floor(np.where(is_valid, values, 0))
    whole = np.where(is_valid, floor.astype(np.int64), INVALID)
    billionths = np.rint((np.where(is_valid, values, 0) - floor) * 1e9).astype(np.int64)
    return Numbers(whole, billionths if billionths.any() else None, is_float=True)


def to_ints(column: pa.ChunkedArray) -> _Ints:
    """Convert integers or timestamps, [n], to int64; `INVALID` if missing or too large."""
    if column.type == pa.uint64():
        column = pc.if_else(pc.less(column, pa.scalar(2**63, pa.uint64())), column, None)
    column = column.cast(pa.int64())
    values: _Ints = (column.fill_null(INVALID) if column.null_count else column).to_numpy()
    return values


def read_numbers(numbers: Numbers, unit: str | None, describe: Callable[[int], str]) -> Times:
    """Convert numbers, [n], to points in time, by their unit or by what is plausible.

    Raises:
        DataError: No form is plausible. The message has a value, which `describe` locates.
    """
    if unit is not None:
        return _read_unit(numbers, unit)
    sample = numbers.whole[numbers.whole != INVALID]
    sample = sample[:: max(1, len(sample) // _SAMPLE)]
    if not len(sample):
        return Times(numbers.whole, 1, "no values")
    if np.quantile(np.abs(sample), 0.75) < 10_000:
        return _read_small(numbers, sample)
    if _is_most(read_compact(sample).ticks != INVALID):
        return read_compact(numbers.only_whole())
    if _is_most((sample >= _EXCEL_RANGE[0]) & (sample <= _EXCEL_RANGE[1])):
        return _read_unit(numbers, "excel")
    median = int(np.sort(sample)[len(sample) // 2])
    read_as = _UNITS[_sizes(np.array([median]))[0]]
    if not _is_plausible(median, read_as):
        row = int(np.flatnonzero(numbers.whole == median)[0])
        date = np.datetime64(median // PER_SECOND[read_as], "s").astype("datetime64[D]")
        read_as = f"{describe(row)} is {date} as {NAMES[read_as]}"
        raise DataError(f"{read_as}, which is not plausible; {remedy(median)}")
    return read_by_size(numbers)


def read_by_size(numbers: Numbers) -> Times:
    """Read each number as seconds, milliseconds, microseconds or nanoseconds, by its size."""
    whole = numbers.whole
    ends = np.array([whole.min(), whole.max()])
    if ends[0] > 0 and len(set(_sizes(ends))) == 1:
        return _read_unit(numbers, _UNITS[_sizes(ends)[0]])
    sizes = np.where(whole == INVALID, len(_UNITS), _sizes(whole))
    parts = [Times(np.full(len(whole), INVALID), 1, "no values")]
    for size in np.unique(sizes[sizes < len(_UNITS)]):
        part = replace(numbers, whole=np.where(sizes == size, whole, INVALID))
        parts.append(_read_unit(part, _UNITS[size]))
    return merge(parts)


def read_compact(values: _Ints) -> Times:
    """Read whole numbers, [n], such as 20200704 or 202007041230, as dates and times."""
    scaled = np.full(len(values), INVALID)
    found = []
    for low, high, factor, name in _COMPACT:
        mask = (values >= low) & (values <= high)
        if mask.any():
            scaled[mask] = values[mask] * factor
            found.append(name)
    date, clock = np.divmod(np.maximum(scaled, 0), 10**9)
    clock, milliseconds = np.divmod(clock, 1000)
    date, day = np.divmod(date, 100)
    hour_minute, second = np.divmod(clock, 100)
    seconds = civil_seconds(*np.divmod(date, 100), day, *np.divmod(hour_minute, 100), second)
    description = f"dates as {' and '.join(found)}, read as UTC"
    if not milliseconds.any():
        return Times(seconds, 1, description)
    return Times(scale(seconds, 1000, milliseconds), 1000, description)


def civil_seconds(
    year: _Ints, month: _Ints, day: _Ints, hour: _Ints, minute: _Ints, second: _Ints
) -> _Ints:
    """Seconds since 1970 of dates and times, [n]; `INVALID` if there is no such time."""
    months = (year - 1970) * 12 + month - 1
    first, after = (to_days(months + step) for step in (0, 1))
    is_valid = (month >= 1) & (month <= 12) & (day >= 1) & (day <= after - first)
    is_valid &= (hour <= 23) & (minute <= 59) & (second <= 59)
    days = first + day - 1
    return np.where(is_valid, days * DAY + hour * 3600 + minute * 60 + second, INVALID)


def to_days(months: _Ints) -> _Ints:
    """Days since 1970 of the first of some months, which are counted from January 1970."""
    days: _Ints = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    return days


def scale(whole: _Ints, factor: int, rest: _Ints | int = 0) -> _Ints:
    """Compute `whole * factor + rest`; `INVALID` stays, and what 64 bits cannot hold is invalid."""
    if factor == 1 and isinstance(rest, int):
        return whole
    limit = (2**63 - 1) // factor - 1
    fits = (whole >= -limit) & (whole <= limit)
    return np.where(fits, np.where(fits, whole, 0) * factor + rest, INVALID)


def merge(parts: Sequence[Times]) -> Times:
    """Join times, [n] each, of which at most one is valid in each row."""
    counts = [np.count_nonzero(part.ticks != INVALID) for part in parts]
    parts = [part for part, n in zip(parts, counts, strict=True) if n] or parts[:1]
    if len(parts) == 1:
        return parts[0]
    per_second = max(part.per_second for part in parts)
    ticks = np.full(len(parts[0].ticks), INVALID)
    for part in parts:
        scaled = scale(part.ticks, per_second // part.per_second)
        np.copyto(ticks, scaled, where=scaled != INVALID)
    described = [
        f"{part.description} ({n:,} row{'' if n == 1 else 's'})"
        for part, n in zip(parts, filter(None, counts), strict=True)
    ]
    return Times(ticks, per_second, " and ".join(described))


def remedy(value: object) -> str:
    """What to declare so that times can be read, with an example for a value that is not read."""
    example = ""
    if isinstance(value, int | float):
        units = [unit for unit in TIME_UNITS if _is_plausible(value, unit)]
        example = f', such as time_unit = "{units[0]}"' if units else ""
    else:
        forms = [form for pattern, form in _EXAMPLES if re.match(pattern, str(value).strip())]
        example = f", such as time_format = {' or '.join(map(repr, forms))}" if forms else ""
    return (
        f"declare time_unit ({', '.join(TIME_UNITS)}) for numbers, or time_format, as of "
        f"strptime, for text{example}"
    )


def _is_plausible(value: float, unit: str) -> bool:
    second = _read_unit(split_floats(np.array([float(value)])), unit).seconds[0]
    # Ticks of .NET, since the year 1, would be nanoseconds of 1990.
    return bool((_YEAR_1995 if unit == "ns" else YEAR_1990) <= second < YEAR_2101)


def _is_most(mask: _Mask) -> bool:
    return bool(2 * np.count_nonzero(mask) > len(mask))


def _sizes(values: _Ints) -> NDArray[np.intp]:
    return np.searchsorted(_LIMITS, np.abs(values), side="right")


def _read_small(numbers: Numbers, sample: _Ints) -> Times:
    """Read numbers below 10,000: years if they are years of today, otherwise positions."""
    values = numbers.only_whole()
    if not _is_most((sample >= 1950) & (sample <= 2050)) or values.max() > 9999:
        return Times(values, 1, POSITIONS)
    is_valid = (values >= 1900) & (values <= 2100)
    days = to_days((np.where(is_valid, values, 1970) - 1970) * 12)
    return Times(np.where(is_valid, days * DAY, INVALID), 1, "years, read as their first day")


def _read_unit(numbers: Numbers, unit: str) -> Times:
    """Convert numbers of one unit to the coarsest ticks that hold them exactly.

    Microseconds are the finest ticks of floats, and milliseconds those of minutes, hours and days.
    """
    nanoseconds = _NANOSECONDS[unit]
    whole = numbers.whole
    if unit == "excel":
        is_date = (whole >= 1) & (whole <= 2_958_465)  # up to the year 9999
        whole = np.where(is_date, whole - _EXCEL_1970, INVALID)
    per_second = max(1, 10**9 // nanoseconds)
    factor = per_second * nanoseconds // 10**9
    if numbers.billionths is None:
        return Times(scale(whole, factor), per_second, NAMES[unit])
    grid = 10**6 if factor > 1 else 1000 if numbers.is_float else 1
    rest = np.rint(numbers.billionths * (nanoseconds / 10**9) / grid).astype(np.int64) * grid
    while (rest % (10**9 // per_second)).any():
        per_second *= 1000
    factor = per_second * nanoseconds // 10**9
    return Times(scale(whole, factor, rest // (10**9 // per_second)), per_second, NAMES[unit])
