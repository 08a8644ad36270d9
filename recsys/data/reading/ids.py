"""Ids as dense codes, each distinct one stored once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

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


def encode_ids(column: pa.ChunkedArray, typed: bool) -> Coded:
    """Give each distinct id of a column, [n], a code."""
    if pa.types.is_dictionary(column.type):
        if not is_text(column.type.value_type):
            return encode_ids(column.cast(column.type.value_type), typed)
        return _decode(column, typed)
    if pa.types.is_floating(column.type):
        column = _whole_numbers(column)
    if pa.types.is_integer(column.type):
        return _encode_integers(column)
    text = column if is_text(column.type) else _as_text(column)
    return _decode(text.cast(pa.string()).dictionary_encode(), typed)


def _decode(column: pa.ChunkedArray, typed: bool) -> Coded:
    """A column of Arrow's dictionaries, one to a chunk, as codes of a single one."""
    encoded = column.unify_dictionaries()
    if not encoded.num_chunks:
        return Coded(np.empty(0, dtype=np.int32), pa.array([], pa.string()), typed)
    codes = np.empty(len(encoded), dtype=np.int32)
    end = 0
    for chunk in encoded.chunks:
        indices = chunk.indices.fill_null(NO_ID) if chunk.null_count else chunk.indices
        codes[end : (end := end + len(chunk))] = indices.to_numpy()
    distinct = encoded.chunk(0).dictionary
    return Coded(codes, distinct.cast(pa.string()) if is_text(distinct.type) else distinct, typed)


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
        return _decode(column.cast(pa.int64()).dictionary_encode(), typed=True)
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


def is_text(kind: pa.DataType) -> bool:
    """Whether a column is of text, however Arrow stores it."""
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def _bools(array: pa.Array) -> NDArray[np.bool_]:
    values: NDArray[np.bool_] = array.to_numpy(zero_copy_only=False)
    return values
