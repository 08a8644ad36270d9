"""Points in time from text: Arrow casts the most common form, and Python parses the others."""

from __future__ import annotations

import math
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.config import available_threads
from recsys.data.tables import INVALID

_BLOCK: Final = 1 << 14

_ISO: Final = "^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?)?"
_FORMS: Final = (
    ("^-?[1-9][0-9]{0,17}$", pa.int64()),
    ("^([1-7]?[0-9]{1,9}[.][0-9]{1,6}|[1-7]?[0-9]{1,12}[.][0-9]{1,3})$", pa.float64()),
    (f"{_ISO}$", pa.timestamp("s")),
    (f"{_ISO}(Z|[+-][0-9]{{2}}:?[0-9]{{2}})$", pa.timestamp("s", "UTC")),
)
"""Text that Arrow can cast exactly, and to what; the unit of times may be finer."""

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,19}(\.[0-9]*)?([eE]\+?[0-9]{1,2})?")
_DATE: Final = re.compile(
    r"([0-9]{4})(?:[-/.]([0-9]{1,2})[-/.]([0-9]{1,2})|([0-9]{2})([0-9]{2}))"
    r"(?:[Tt ] *([0-9]{1,2}):?([0-9]{2})(?::?([0-9]{2})(?:[.,]([0-9]+))?)?)?"
    r" *(?:[Zz]|([+-])([01][0-9]|2[0-3]):?([0-5][0-9])?)? *(?:UTC|GMT)?"
)
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001
_NOTHING: Final = (INVALID, 0, 0, -1)


def cast_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Cast text, [n], to timestamps, integers or floats, as most of its first rows suggest.

    What has another form is null.
    """
    values = column.slice(0, 1000).drop_null().to_pylist()
    values = [value.replace("/", "-").removesuffix(" UTC") for value in values]
    pattern, kind = max(_FORMS, key=lambda form: len([v for v in values if re.match(form[0], v)]))
    if pa.types.is_timestamp(kind):
        fractions = (re.search(r":[0-9]{2}[.]([0-9]+)", value) for value in values)
        digits = max((len(match[1]) for match in fractions if match), default=0)
        kind = pa.timestamp(("s", "ms", "us", "ns")[min(-(-digits // 3), 3)], kind.tz)
    blocks = [
        chunk.slice(start, _BLOCK)
        for chunk in column.chunks
        for start in range(0, len(chunk), _BLOCK)
    ]
    with ThreadPoolExecutor(available_threads()) as pool:
        return pa.chunked_array(pool.map(partial(_cast, kind=kind, pattern=pattern), blocks), kind)


def _cast(block: pa.Array, kind: pa.DataType, pattern: str) -> pa.Array:
    first = block[0].as_py() or ""
    if "/" in first or first.endswith(" UTC"):
        block = pc.replace_substring(pc.replace_substring(block, "/", "-"), " UTC", "")
    with suppress(pa.ArrowInvalid):
        if kind != pa.float64():  # a float may have lost digits
            return block.cast(kind)
    with suppress(pa.ArrowInvalid):
        return pc.if_else(pc.match_substring_regex(block, pattern), block, None).cast(kind)
    return pa.nulls(len(block), kind)


def parse_text(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Parse text, [n], each distinct value once.

    Returns:
        What `parse_value` returns, [4, n], but at the end whether a number has lost digits.
    """
    encoded = column.combine_chunks().dictionary_encode()
    values = [parse_value(text) for text in encoded.dictionary.to_pylist()]
    fields = np.array(values, np.int64).T[:, encoded.indices]
    lost = fields[3][fields[3] >= 0]
    # Programs leave out zeros at the end: one of ten numbers lacks a digit, one of 1000 three.
    are_three = (lost >= 3).sum() > 0.01 * len(lost)
    limit = 1 if (lost >= 1).sum() > 0.3 * len(lost) else 3 if are_three else 99
    fields[3] = fields[3] >= limit
    return fields


def parse_value(text: str) -> tuple[int, int, int, int]:
    """Parse a date that begins with the year, or a number.

    Returns:
        Whole part, rounded down, and billionths: of the number, or of the seconds since 1970 in
        UTC; `INVALID` if the text is neither. Nanoseconds of the unit of dates; 0 for numbers. How
        many digits, down to seconds, scientific notation lacks; -1 in other notations.
    """
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return _parse_number(text)
    if not (match := _DATE.fullmatch(text)):
        return _NOTHING
    year, month, day, month2, day2, *clock, fraction, sign, hours, minutes = match.groups("0")
    try:
        date = map(int, (year, int(month) or month2, int(day) or day2, *clock))
        time = datetime(*date) - _EPOCH  # type: ignore[arg-type]  # noqa: DTZ001
    except ValueError:
        return _NOTHING
    offset = (int(hours) * 60 + int(minutes)) * (-60 if sign == "-" else 60)
    seconds = time.days * 86_400 + time.seconds - offset
    return seconds, int(f"{fraction:0<9}"[:9]), 10**9, -1


def _parse_number(text: str) -> tuple[int, int, int, int]:
    number = Decimal(text)
    whole = math.floor(number)
    if abs(whole) >= 2**63:
        return _NOTHING
    lost = -1
    if "e" in text.lower():
        # Of milliseconds and finer units, the digits down to seconds are needed.
        finer = max(0, (len(str(abs(whole))) - 10) // 3 * 3)
        is_whole_hour = whole % (3600 * 10**finer) == 0
        lost = 0 if is_whole_hour else max(int(number.as_tuple().exponent) - finer, 0)
    return whole, int((number - whole) * 10**9), 0, lost
