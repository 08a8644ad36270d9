"""Points in time from text: ISO 8601 and its relatives that begin with the year, and numbers."""

from __future__ import annotations

import dataclasses
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.config import available_threads
from recsys.data.tables import INVALID, Times
from recsys.data.time_numbers import PER_SECOND, Numbers, civil_seconds, scale, split_floats

_Ints = NDArray[np.int64]
_Mask = NDArray[np.bool_]

_BLOCK: Final = 1 << 17
_LEAF: Final = 1 << 10
"""A block of this many rows that Arrow cannot cast is parsed by regular expressions."""

_NUMBER: Final = (
    r"^(?P<sign>[+-]?)(?P<whole>\d{1,18}|[1-8]\d{18})(?:\.(?P<fraction>\d*))?"
    r"(?:[eE]\+?(?P<exponent>\d{1,2}))?$"
)
_DATE: Final = (
    r"^(?P<year>\d{4})"
    r"(?:[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})|(?P<month2>\d\d)(?P<day2>\d\d))"
    r"(?:[Tt ] *(?P<hour>\d{1,2}):?(?P<minute>\d\d)"
    r"(?::?(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?)?"
    r" *(?P<zone>(?:[Zz]|[+-]\d\d(?::?\d\d)?)? *(?:UTC|GMT)?)$"
)
_ZONE: Final = r":\d\d(\.\d+)?(Z|[+-]\d\d(:?\d\d)?)$"


@dataclass(frozen=True, eq=False)
class ParsedText:
    """What rows of text, [n], are: dates or numbers."""

    dates: Times
    numbers: Numbers
    rounded: _Mask | None
    """Numbers in scientific notation that have lost digits."""


@dataclass(frozen=True, eq=False)
class _Fields:
    """Rows of text, [n], parsed by regular expressions; `INVALID` where they are something else."""

    seconds: _Ints
    nanoseconds: _Ints
    whole: _Ints
    billionths: _Ints
    is_zoned: _Mask
    lost_digits: _Ints
    """Digits that are missing from scientific notation; −1 for other notations."""


def parse_text(column: pa.ChunkedArray) -> ParsedText:
    """Parse text, [n]. Dates without a time zone are UTC."""
    kind, replacements = _guess(column.slice(0, 1000).drop_null().to_pylist())
    with ThreadPoolExecutor(available_threads()) as pool:
        ints = pool.map(partial(_cast, kind=kind, replacements=replacements), _blocks(column))
        fast = np.concatenate([np.empty(0, np.int64), *ints])
        rest = fast == INVALID
        if column.null_count:
            rest &= column.is_valid().to_numpy()
        rows = np.flatnonzero(rest)
        slow = column if len(rows) == len(column) else column.take(pa.array(rows))
        fields = _join([_match(pa.array([], pa.string())), *pool.map(_match, _blocks(slow))])
    nothing = np.full(len(fast), INVALID)
    is_date = pa.types.is_timestamp(kind)
    millionths = fast if kind == pa.float64() else None
    numbers = _numbers(nothing if is_date else fast, millionths, rows, fields)
    dates = _dates(fast if is_date else nothing, kind, rows, fields)
    rounded = None
    if (is_rounded := _find_rounded(fields)).any():
        rounded = np.zeros(len(fast), dtype=np.bool_)
        rounded[rows] = is_rounded
    return ParsedText(dates, numbers, rounded)


def _join(parts: list[_Fields]) -> _Fields:
    names = [field.name for field in dataclasses.fields(_Fields)]
    return _Fields(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _blocks(column: pa.ChunkedArray) -> list[pa.Array]:
    return [
        chunk.slice(start, _BLOCK)
        for chunk in column.chunks
        for start in range(0, len(chunk), _BLOCK)
    ]


def _guess(values: list[str]) -> tuple[pa.DataType, list[tuple[str, str]]]:
    """The type that Arrow can cast most rows to, and what to replace before; null if none."""
    first = values[0] if values else ""
    if re.fullmatch(r"-?[1-9]\d{0,18}", first):
        return pa.int64(), []
    if re.fullmatch(r"[1-9]\d{9}\.\d{1,6}", first):
        return pa.float64(), []
    if not re.match(r"\d{4}([-/])\d\d\1\d\d", first):
        return pa.null(), []
    replacements = [("/", "-")] if "/" in first else []
    replacements += [(zone, "") for zone in (" UTC", " GMT") if first.endswith(zone)]
    fractions = (re.search(r":\d\d\.(\d+)", value) for value in values)
    digits = max(len(match[1]) if match else 0 for match in fractions)
    unit = ("s", "ms", "us", "ns")[min(-(-digits // 3), 3)]
    return pa.timestamp(unit, "UTC" if re.search(_ZONE, first) else None), replacements


def _cast(block: pa.Array, kind: pa.DataType, replacements: list[tuple[str, str]]) -> _Ints:
    """Cast text, [n], with Arrow; `INVALID` for stretches with a value that does not fit."""
    if pa.types.is_null(kind):
        return np.full(len(block), INVALID)
    for old, new in replacements:
        block = pc.replace_substring(block, old, new)
    return _cast_halves(block, kind)


def _cast_halves(block: pa.Array, kind: pa.DataType) -> _Ints:
    try:
        if kind == pa.float64():
            values = _to_millionths(block)
        else:
            values = block.cast(kind).cast(pa.int64())
    except pa.ArrowInvalid:
        half = len(block) // 2
        if half < _LEAF:
            return np.full(len(block), INVALID)
        return np.concatenate([_cast_halves(part, kind) for part in (block[:half], block[half:])])
    ints: _Ints = (values.fill_null(INVALID) if values.null_count else values).to_numpy()
    return ints


def _to_millionths(block: pa.Array) -> pa.Array:
    """Convert decimals of ten digits before the point and up to six after it, exactly."""
    values = block.cast(pa.float64())
    bounds = pc.min_max(values)
    is_exact = bounds["min"].as_py() >= 1e9 and bounds["max"].as_py() < 1e10
    is_exact = is_exact and pc.max(pc.binary_length(block)).as_py() <= 17
    for letter in "eE":
        is_exact = is_exact and not pc.any(pc.match_substring(block, letter)).as_py()
    if not is_exact:
        raise pa.ArrowInvalid("not exact")
    return pc.round(pc.multiply(values, 1e6)).cast(pa.int64())


def _match(block: pa.Array) -> _Fields:
    """Parse text, [n], with regular expressions."""
    n = len(block)
    seconds, nanoseconds, whole, billionths = (np.full(n, INVALID) for _ in range(4))
    is_zoned, lost_digits = np.zeros(n, dtype=np.bool_), np.full(n, -1)
    fields = _Fields(seconds, nanoseconds, whole, billionths, is_zoned, lost_digits)
    text = pc.utf8_trim_whitespace(block)
    match = pc.extract_regex(text, _NUMBER)
    rows = np.flatnonzero(match.is_valid())
    if len(rows):
        _fill_numbers(fields, rows, text.take(rows), match.take(rows))
    rows = np.flatnonzero(match.is_null())
    match = pc.extract_regex(text.take(rows), _DATE)
    rows, match = rows[match.is_valid()], match.drop_null()
    if len(rows):
        _fill_dates(fields, rows, match)
    return fields


def _fill_numbers(fields: _Fields, rows: _Ints, text: pa.Array, match: pa.StructArray) -> None:
    whole, billionths = _to_ints(match.field("whole")), _to_billionths(match.field("fraction"))
    negative = pc.equal(match.field("sign"), "-").to_numpy(zero_copy_only=False)
    whole[negative] = -whole[negative] - (billionths[negative] > 0)
    billionths[negative] = -billionths[negative] % 10**9
    exponent = match.field("exponent")
    scientific = np.flatnonzero(pc.not_equal(exponent, ""))
    if len(scientific):
        numbers = split_floats(text.take(scientific).cast(pa.float64()).to_numpy())
        parts = [pc.utf8_length(match.field(name)).to_numpy() for name in ("whole", "fraction")]
        digits = (parts[0] + parts[1])[scientific]
        needed = _to_ints(exponent)[scientific] + 1
        # Of numbers with finer units than seconds, the digits up to seconds are needed.
        finer = 1000 ** np.searchsorted([12, 15, 18], needed, side="right")
        lost = np.maximum(needed - np.log10(finer).astype(np.int64) - digits, 0)
        lost[numbers.whole % (3600 * finer) == 0] = 0
        fields.lost_digits[rows[scientific]] = lost
        whole[scientific], billionths[scientific] = numbers.whole, 0
        if numbers.billionths is not None:
            grid = 1000 * np.minimum(finer, 10**6)  # microseconds, as of other floats
            billionths[scientific] = np.rint(numbers.billionths / grid) * grid
    fields.whole[rows] = whole
    fields.billionths[rows] = billionths


def _fill_dates(fields: _Fields, rows: _Ints, match: pa.StructArray) -> None:
    parts = [match.field("year")]
    for name in ("month", "day"):
        part, other = match.field(name), match.field(f"{name}2")
        parts.append(pc.if_else(pc.equal(part, ""), other, part))
    parts += [match.field(name) for name in ("hour", "minute", "second")]
    seconds = civil_seconds(*map(_to_ints, parts))
    zone = match.field("zone")
    offsets = {name: _offset(name) for name in zone.unique().to_pylist()}
    encoded = zone.dictionary_encode()
    of_zone = np.array([offsets[name] for name in encoded.dictionary.to_pylist()], np.int64)
    offset = of_zone[encoded.indices.to_numpy()]
    is_valid = (seconds != INVALID) & (offset != INVALID)
    fields.seconds[rows] = np.where(is_valid, seconds - np.where(is_valid, offset, 0), INVALID)
    fields.nanoseconds[rows] = _to_billionths(match.field("fraction"))
    fields.is_zoned[rows] = pc.not_equal(zone, "").to_numpy(zero_copy_only=False)


def _offset(zone: str) -> int:
    """Seconds to subtract for a time zone such as `+02:00`; `INVALID` if there is none such."""
    if not (match := re.match(r"([+-])(\d\d):?(\d\d)?", zone)):
        return 0
    hours, minutes = int(match[2]), int(match[3] or 0)
    if hours > 23 or minutes > 59:
        return INVALID
    return (hours * 3600 + minutes * 60) * (1 if match[1] == "+" else -1)


def _to_ints(text: pa.Array) -> _Ints:
    """Convert digits, [n], to integers; empty text is 0."""
    digits = pc.if_else(pc.equal(text, ""), "0", text)
    return np.array(digits.cast(pa.int64()))


def _to_billionths(digits: pa.Array) -> _Ints:
    """Convert the digits after the point, [n], to billionths, rounded down."""
    padded = pc.utf8_slice_codeunits(pc.utf8_rpad(digits, 9, "0"), 0, 9)
    return np.array(padded.cast(pa.int64()))


def _numbers(whole: _Ints, millionths: _Ints | None, rows: _Ints, fields: _Fields) -> Numbers:
    """Join the numbers that Arrow cast, whole or as millionths, with those of some rows."""
    billionths = np.zeros(0, dtype=np.int64)
    if millionths is not None:
        whole, billionths = np.divmod(millionths, 10**6)
        is_missing = millionths == INVALID
        whole[is_missing], billionths[is_missing] = INVALID, 0
        billionths *= 1000
    whole[rows] = fields.whole
    if not len(billionths) and (fields.billionths[fields.whole != INVALID] != 0).any():
        billionths = np.zeros(len(whole), dtype=np.int64)
    if not len(billionths):
        return Numbers(whole)
    billionths[rows] = np.where(fields.whole == INVALID, 0, fields.billionths)
    return Numbers(whole, billionths)


def _dates(ticks: _Ints, kind: pa.DataType, rows: _Ints, fields: _Fields) -> Times:
    """Join the times that Arrow cast to `kind` with those of some rows."""
    is_cast = pa.types.is_timestamp(kind)
    by_cast = PER_SECOND[kind.unit] if is_cast else 1
    is_date = fields.seconds != INVALID
    nanoseconds = np.where(is_date, fields.nanoseconds, 0)
    per_second = by_cast
    while (nanoseconds % (10**9 // per_second)).any():
        per_second *= 1000
    n_cast = np.count_nonzero(ticks != INVALID)
    n_zoned = np.count_nonzero(fields.is_zoned & is_date)
    n_zoned += n_cast * (is_cast and kind.tz is not None)
    n = n_cast + np.count_nonzero(is_date)
    zones = "with time zones" if n_zoned == n else "in UTC where there is no time zone"
    ticks = scale(ticks, per_second // by_cast)
    ticks[rows] = scale(fields.seconds, per_second, nanoseconds // (10**9 // per_second))
    return Times(ticks, per_second, f"ISO 8601, {zones}")


def _find_rounded(fields: _Fields) -> _Mask:
    """Which numbers in scientific notation have lost digits, [n].

    Programs leave out zeros at the end, of one number in ten, or one in a thousand if three are
    missing: rows are rounded if there are more of them.
    """
    lost = fields.lost_digits[fields.lost_digits >= 0]
    if not len(lost):
        return np.zeros(len(fields.lost_digits), dtype=np.bool_)
    limit = 1 if (lost > 0).mean() > 0.3 else 3 if (lost >= 3).mean() > 0.01 else 99
    return fields.lost_digits >= limit
