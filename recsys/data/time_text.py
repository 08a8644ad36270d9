"""Times from text: Arrow casts the usual forms in blocks, and Python parses other dates."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.config import available_threads
from recsys.data.ids import MISSING_MARKERS, to_bool
from recsys.data.tables import INVALID

DECIMAL: Final = pa.decimal128(37, 9)
"""Type of numbers with exact fractions."""

Parts = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Whole parts, rounded down, of numbers or of seconds since 1970, [n], `INVALID` if there are none,
and billionths, [n], or [1] if all are zero."""

_BLOCK: Final = 1 << 14
_FRACTION: Final = pa.decimal128(9, 9)
_BILLION: Final = pa.scalar(Decimal(10**9))
_LARGEST: Final = pa.scalar(Decimal(2**63), DECIMAL)

_NUMBER: Final = r"^[+-]?([0-9]{1,19}(\.[0-9]*)?([eE]\+?0?[0-9])?|[0-9](\.[0-9]*)?[eE]\+?1[0-8])$"
_DAY: Final = "^[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK: Final = "[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?"
_FORMS: Final = {
    f"{_DAY}({_CLOCK})?$": pa.timestamp("ns"),
    f"{_DAY}{_CLOCK}(Z|[+-][0-9]{{2}}:?[0-9]{{2}})$": pa.timestamp("ns", "UTC"),
}
"""Dates that Arrow can cast, and to what."""
_DATE: Final = re.compile(
    r"([0-9]{4}([-/]?)[0-9]{2}\2[0-9]{2})"
    r"(?:[Tt ]([0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2}(?:[.,][0-9]+)?)?)?)"
    r"(?:(?<![Tt ][0-9]{2}) ?(Z|[+-][0-9]{2}(?::?[0-9]{2})?))?)?"
)
"""A day, its separator, a time of day and, after minutes at least, a time zone."""
_SHORT: Final = r"^[+-]?[0-9](\.[0-9]{0,6})?[eE]\+?(0?9|1[258])$"
"""Seconds, milliseconds and so on without three digits or more."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def are_numbers(column: pa.ChunkedArray) -> bool:
    """Whether half of the first values of text that are not missing, or more, are numbers."""
    markers = pa.array(MISSING_MARKERS, pa.large_string())
    for n_rows in (1000, len(column)):
        text = pc.utf8_trim_whitespace(column.slice(0, n_rows).drop_null())
        sample = text.filter(pc.invert(pc.is_in(text, markers))).slice(0, 1000)
        if 2 * len(sample) >= n_rows:
            break
    return 2 * int(to_bool(pc.match_substring_regex(sample, _NUMBER)).sum()) >= len(sample)


def parse_numbers(column: pa.ChunkedArray) -> Parts:
    """Parse text, [n], as numbers of at most 19 digits."""
    return _map_blocks(_parse_numbers, column)


def parse_dates(column: pa.ChunkedArray) -> Parts:
    """Parse text, [n], as dates that begin with the year."""
    return _map_blocks(_parse_dates, column)


def split_numbers(values: pa.Array | pa.ChunkedArray) -> Parts:
    """Split decimals or integers, [n]; those that do not fit into 64 bits are `INVALID`."""
    if pa.types.is_decimal(values.type):
        values = values.cast(DECIMAL)
        values = pc.if_else(pc.less(pc.abs(values), _LARGEST), values, None)
        floor = pc.floor(values)
        rest = pc.multiply(pc.subtract(values, floor).cast(_FRACTION), _BILLION)
        return _to_int64(floor), rest.cast(pa.int64()).fill_null(0).to_numpy()
    if values.type == pa.uint64():
        values = pc.if_else(pc.less(values, pa.scalar(2**63, pa.uint64())), values, None)
    return _to_int64(values), np.zeros(1, np.int64)


def _to_int64(values: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    integers: NDArray[np.int64] = values.cast(pa.int64()).fill_null(INVALID).to_numpy()
    return integers


def find_rounded(column: pa.ChunkedArray) -> NDArray[np.bool_] | None:
    """Which numbers, [n], in scientific notation lack three digits down to seconds; None if few do.

    Programs leave out zeros at the end, so that one of 1000 numbers lacks three digits anyway.
    """
    is_short = to_bool(pc.match_substring_regex(column, _SHORT))
    n_scientific = to_bool(pc.match_substring_regex(column, "[0-9.][eE][+0-9]")).sum()
    return is_short if 100 * is_short.sum() > n_scientific else None


def _map_blocks(parse: Callable[[pa.Array], Parts], column: pa.ChunkedArray) -> Parts:
    """Parse blocks of text in threads, so that odd values slow down their own block only."""
    blocks = [
        chunk.slice(start, _BLOCK)
        for chunk in column.chunks
        for start in range(0, len(chunk), _BLOCK)
    ]
    with ThreadPoolExecutor(available_threads()) as pool:
        parts = [np.broadcast_arrays(*part) for part in pool.map(parse, blocks)]
    whole, billionths = np.concatenate([np.empty((2, 0), np.int64), *parts], axis=1)
    return whole, billionths


def _parse_numbers(block: pa.Array) -> Parts:
    with suppress(pa.ArrowInvalid):  # to fail takes long
        if pc.all(pc.ascii_is_decimal(block)).as_py():  # Arrow also casts hexadecimal text
            return split_numbers(block.cast(pa.int64()))
    text = pc.utf8_trim_whitespace(block)
    text = pc.if_else(pc.match_substring_regex(text, _NUMBER), text, None)
    return split_numbers(text.cast(DECIMAL, safe=False))


def _parse_dates(block: pa.Array) -> Parts:
    first = block[0].as_py() or ""
    if "/" in first or first.endswith(" UTC"):
        block = pc.replace_substring(block, "/", "-", max_replacements=2)
        block = pc.replace_substring(block, " UTC", "")
    for pattern, kind in _FORMS.items():
        with suppress(pa.ArrowInvalid):
            if re.match(pattern, block[0].as_py() or "") and (not kind.tz or _have_minutes(block)):
                return _split_nanoseconds(block.cast(kind))
    nanoseconds = pa.nulls(len(block), pa.int64())
    for pattern, kind in _FORMS.items():
        text = pc.if_else(pc.match_substring_regex(block, pattern), block, None)
        with suppress(pa.ArrowInvalid):
            nanoseconds = pc.coalesce(nanoseconds, text.cast(kind).cast(pa.int64()))
    whole, billionths = _split_nanoseconds(nanoseconds)
    odd = np.flatnonzero(to_bool(pc.and_(nanoseconds.is_null(), block.is_valid())))
    parsed = [*map(_parse_date, block.take(pa.array(odd)).to_pylist())]
    whole[odd], billionths[odd] = np.array(parsed, np.int64).reshape(-1, 2).T
    return whole, billionths


def _have_minutes(dates: pa.Array) -> bool:
    """Whether all dates have minutes; Arrow takes those of `2020-07-04 12-05` for a time zone."""
    return pc.all(pc.equal(pc.find_substring(dates, ":"), 13)).as_py() is not False


def _split_nanoseconds(times: pa.Array) -> Parts:
    ticks = _to_int64(times)
    whole, billionths = np.divmod(ticks, 10**9)
    return np.where(ticks == INVALID, INVALID, whole), billionths


def _parse_date(text: str) -> tuple[int, int]:
    """Seconds since 1970 and billionths of a date that begins with the year; else `INVALID`."""
    text = re.sub(r"(?<![\d.,])(\d)(?!\d)", r"0\1", text.strip().removesuffix(" UTC"))
    if (found := _DATE.fullmatch(text)) is None:
        return INVALID, 0
    day, separator, clock, zone = found.groups(default="")
    clock, _, fraction = clock.replace(",", ".").partition(".")
    try:
        day = day.replace(separator or "-", "-")
        time = datetime.fromisoformat(f"{day}T{clock or '00'}{zone or 'Z'}")
    except ValueError:
        return INVALID, 0
    since = time - _EPOCH
    return since.days * 86_400 + since.seconds, int(f"{fraction:0<9.9}")  # Python has six digits
