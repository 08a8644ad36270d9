"""Ratings as numbers: ids as dense codes, ratings as float32, times as int64 seconds."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys import columns as names
from recsys.data.raw import RawRatings

UNREADABLE: Final = np.iinfo(np.int64).min
"""Stands where a time cannot be read."""

NO_ID: Final = -1
"""The code that stands where there is no id."""


# eq=False: arrays are compared one by one, if at all.
@dataclass(frozen=True, eq=False)
class Coded:
    """A column of ids, each distinct one stored once."""

    codes: NDArray[np.int32]
    """Position in `distinct` of each row's id, [n]; `NO_ID` where there is none."""
    distinct: pa.Array
    """The ids, text or integers, in no order; not all need be used."""
    typed: bool
    """Whether text is known to be text, and not numbers in a file that knows only text."""

    @cached_property
    def is_id(self) -> NDArray[np.bool_]:
        """Which of the distinct are ids: no blanks, no letters that stand for no letter."""
        if not pa.types.is_string(self.distinct.type):
            return np.ones(len(self.distinct), dtype=np.bool_)
        filled = pc.invert(pc.utf8_is_space(self.distinct))
        return _bools(pc.and_(filled, pc.utf8_is_printable(self.distinct)))

    @cached_property
    def is_integer(self) -> NDArray[np.bool_]:
        """Which of the distinct are integers of 64 bits, or are written as such."""
        if not pa.types.is_string(self.distinct.type):
            return np.ones(len(self.distinct), dtype=np.bool_)
        # '007' and '-0' are not how an integer is written; 18 digits always fit into 64 bits.
        return _bools(pc.match_substring_regex(self.distinct, "^(0|-?[1-9][0-9]{0,17})$"))

    def ids(self, used: NDArray[np.bool_]) -> NDArray[Any]:
        """The ids that are `used`, [n_used], in the order of `distinct`.

        int64 where all are integers, or text that is the plain writing of integers in a file
        that knows only text; '007' or 'a7' stay text, and make all the others text.
        """
        chosen = self.distinct.filter(pa.array(used))
        is_text = pa.types.is_string(chosen.type)
        if not is_text or (not self.typed and self.is_integer[used].all()):
            integers: NDArray[np.int64] = chosen.cast(pa.int64()).to_numpy()
            return integers
        return np.array(chosen.to_pylist(), dtype=object)


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


def encode_ids(column: pa.ChunkedArray, typed: bool) -> Coded:
    """Give each distinct id of a column, [n], a code."""
    if pa.types.is_dictionary(column.type):
        if not _is_text(column.type.value_type):
            return encode_ids(column.cast(column.type.value_type), typed)
        encoded = column.unify_dictionaries()
    else:
        if pa.types.is_floating(column.type):
            column = _whole_numbers(column)
        if pa.types.is_integer(column.type):
            return _encode_integers(column)
        if not _is_text(column.type):
            column = _as_text(column)
        encoded = column.cast(pa.string()).dictionary_encode().unify_dictionaries()
    if not encoded.num_chunks:
        return Coded(np.empty(0, dtype=np.int32), pa.array([], pa.string()), typed)
    codes = np.empty(len(encoded), dtype=np.int32)
    end = 0
    for chunk in encoded.chunks:
        indices = chunk.indices.fill_null(NO_ID) if chunk.null_count else chunk.indices
        codes[end : (end := end + len(chunk))] = indices.to_numpy()
    return Coded(codes, encoded.chunk(0).dictionary.cast(pa.string()), typed)


_SMALL_SPAN = 1 << 24
"""Integers from a range of this many are their own codes; those from a larger are looked up."""


def _encode_integers(column: pa.ChunkedArray) -> Coded:
    bounds = pc.min_max(column)
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    if low is None:
        return Coded(np.full(len(column), NO_ID, np.int32), pa.array([], pa.int64()), typed=True)
    if high > _INT64.max:
        return encode_ids(column.cast(pa.string()), typed=True)
    if high - low >= _SMALL_SPAN:
        encoded = column.cast(pa.int64()).dictionary_encode().unify_dictionaries()
        indices = pa.chunked_array([chunk.indices for chunk in encoded.chunks])
        codes = indices.fill_null(NO_ID).to_numpy().astype(np.int32)  # ours to write to
        return Coded(codes, encoded.chunk(0).dictionary, typed=True)
    codes = np.empty(len(column), dtype=np.int32)
    end = 0
    for chunk in column.chunks:
        part = codes[end : (end := end + len(chunk))]
        values = (chunk.fill_null(low) if chunk.null_count else chunk).to_numpy()
        np.subtract(values, low, out=part, dtype=np.int64, casting="unsafe")
        if chunk.null_count:
            part[chunk.is_null().to_numpy(zero_copy_only=False)] = NO_ID
    return Coded(codes, pa.array(np.arange(low, high + 1)), typed=True)


_INT64 = np.iinfo(np.int64)


def _whole_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Integers that once had gaps among them, and so became floats, as integers again."""
    whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), 2.0**53))
    if pc.all(whole).as_py() is False:
        return _as_text(column)
    return column.cast(pa.int64())


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Each value as Python writes it."""
    text = [None if value is None else str(value) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(text, pa.string())])


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def _bools(array: pa.Array) -> NDArray[np.bool_]:
    values: NDArray[np.bool_] = array.to_numpy(zero_copy_only=False)
    return values


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
