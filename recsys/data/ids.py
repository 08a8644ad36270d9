"""Ids of users and items: 64-bit integers or text, as their own values say."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.config import available_threads

MISSING: Final = -1
"""Code of a missing id."""

MISSING_MARKERS: Final = (
    "", "NULL", "null", "(null)", "NA", "N/A", "#N/A", "nan", "NaN", "None", r"\N", "<NA>",
)  # fmt: skip
"""Text that stands for a missing value in sources that do not distinguish text from numbers."""

_CONTROL: Final = r"[\p{Cc}\p{Zl}\p{Zp}]"

_LOWEST: Final = pa.scalar(Decimal(-(2**63)), pa.decimal128(19, 0))
_HIGHEST: Final = pa.scalar(Decimal(2**63 - 1), pa.decimal128(19, 0))
_LONG: Final = "^(0[0-9]+|[1-9][0-9]{18}|1[0-8][0-9]{18})$"
"""Digits with zeros before them, or as many as an unsigned integer of 64 bits has."""

_ROUNDED: Final = "^[-+]?[0-9]+([.,][0-9]*)?[eE][-+]?[0-9]+$"
"""A number in scientific notation, with a point or a comma, as Excel writes long ones."""

_DIRECT_RANGE: Final = 1 << 24
"""Integer ids that span at most this range are encoded by subtraction, others by lookup."""

_SAMPLE: Final = 1 << 16
"""Ids are encoded by their hashes if most of this many first rows differ."""
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
"""The odd factor of these hashes."""

_INTEGER_SHARE: Final = 0.9
"""If at least this share of the rows has integers, the others are invalid; else all are text."""

_ALL_TEXT: Final = "so the ids of this column are text"
_EXPORT: Final = "write them with all digits, in a spreadsheet as cells of text, or remove them"
_Mask = NDArray[np.bool_]


class IdType(NamedTuple):
    """What the ids of a column are."""

    is_integer: bool
    odd: _Mask
    """The distinct values that are not integers, though they are; or that make them text, [n]."""
    message: str
    """What is wrong with these values, or what follows from them."""


# eq=False: comparing arrays element by element gives no single answer.
@dataclass(frozen=True, eq=False)
class EncodedColumn:
    """A column of ids as codes, with each distinct id stored once."""

    codes: NDArray[np.int32]
    """Index into `distinct` of each row, [n]; `MISSING` if it has no id."""
    distinct: pa.Array
    """The ids, text or int64, in any order; some may be unused."""
    has_types: bool
    """Whether text in the source is known to be text."""

    @cached_property
    def is_id(self) -> _Mask:
        """Which distinct values are ids: not blank, not missing, and without control characters."""
        if not pa.types.is_string(self.distinct.type):
            return np.ones(len(self.distinct), dtype=np.bool_)
        is_id = ~to_bool(pc.utf8_is_space(self.distinct))
        is_id &= ~to_bool(pc.match_substring_regex(self.distinct, _CONTROL))
        markers = pa.array(("",) if self.has_types else MISSING_MARKERS)
        return is_id & ~to_bool(pc.is_in(self.distinct, markers))

    def rows_where(self, valid: _Mask) -> _Mask:
        """Rows whose id is valid, [n], given a mask of `distinct`; missing ids are not valid."""
        if valid.all():
            mask: _Mask = self.codes != MISSING
            return mask
        return np.append(valid, False)[self.codes]  # MISSING is -1, the last

    @cached_property
    def integers(self) -> pa.Array:
        """The distinct values as int64; null for text that is not an integer."""
        if not pa.types.is_string(self.distinct.type):
            return self.distinct
        if self.has_types:
            return pa.nulls(len(self.distinct), pa.int64())
        return parse_integers(self.distinct)

    def decide(self, mask: _Mask) -> IdType:
        """Decide the type of the ids in some rows, [n], by what these rows hold."""
        is_integer = to_bool(self.integers.is_valid())
        nothing = np.zeros(len(is_integer), dtype=np.bool_)
        if self.has_types or is_integer.all():
            return IdType(bool(is_integer.all()), nothing, "")
        codes = self.codes[mask & (self.codes != MISSING)]
        counts = np.bincount(codes, minlength=len(is_integer))
        other = ~is_integer & (counts > 0)
        is_number = _matches(self.distinct, _LONG) & other
        share = counts[is_integer].sum() / max(counts.sum(), 1)
        if not is_number.any() and (share >= _INTEGER_SHARE or not other.any()):
            return IdType(True, other, "is not an integer, as ids here are")
        is_rounded = _matches(self.distinct, _ROUNDED) & other
        if is_rounded.any():
            message = f"may be a number that lost digits, {_ALL_TEXT}; {_EXPORT}"
            return IdType(False, is_rounded, message)
        if is_number.any():
            return IdType(False, is_number, f"would change as a 64-bit integer, {_ALL_TEXT}")
        odd = other if share >= 1 / 2 else nothing
        return IdType(False, odd, f"is not a 64-bit integer, {_ALL_TEXT}")

    def as_integers(self) -> EncodedColumn:
        """The same rows with int64 ids, so that `10.0` is `10`; other text is missing."""
        if not pa.types.is_string(self.distinct.type):
            return self
        encoded = self.integers.dictionary_encode()
        codes = encoded.indices.fill_null(MISSING).to_numpy().astype(np.int32, copy=False)
        return EncodedColumn(
            np.append(codes, np.int32(MISSING))[self.codes], encoded.dictionary, True
        )

    def sorted_ids(self, used: _Mask) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Codes of the distinct ids where `used` is true, in order of id, and these ids.

        Both are [n_used]; ids are int64 or str objects.
        """
        codes = np.flatnonzero(used)
        selected = pa.chunked_array([self.distinct.filter(pa.array(used))])
        fixed = _fixed_width(selected) if is_text(selected.type) and len(selected) else []
        order = np.argsort(fixed[0]) if fixed else pc.sort_indices(selected).to_numpy()
        ids = selected.take(pa.array(order))
        if not pa.types.is_string(ids.type):
            ids = ids.cast(pa.int64())
        return codes[order], ids.to_numpy()


def parse_integers(text: pa.Array) -> pa.Array:
    """Parse canonical integers of 64 bits, such as `7`, `-7` and `7.0`; others are null.

    Not canonical are `007`, `+7`, `-0` and `7e3`. A float of more than 15 digits may be rounded.
    """
    if not _matches(text, r"^-?[0-9]+(\.0+)?$").any():
        return pa.nulls(len(text), pa.int64())
    plain = pc.replace_substring_regex(text, r"^(0|-?[1-9][0-9]{0,14})\.0+$", r"\1")
    is_integer = pc.match_substring_regex(plain, "^(0|-?[1-9][0-9]{0,18})$")
    values = pc.if_else(is_integer, plain, None).cast(pa.decimal128(19, 0))
    fits = pc.and_(pc.greater_equal(values, _LOWEST), pc.less_equal(values, _HIGHEST))
    return pc.if_else(fits, values, None).cast(pa.int64())


def encode_ids(column: pa.ChunkedArray, has_types: bool) -> EncodedColumn:
    """Assign a code to each distinct id of a column of integers or text, [n]."""
    if not pa.types.is_integer(column.type):
        return _encode_values(column, has_types)
    bounds = pc.min_max(column)
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    if low is None or high - low >= _DIRECT_RANGE:
        return _encode_values(column.cast(pa.int64()), has_types=True)
    codes = np.empty(len(column), dtype=np.int32)
    end = 0
    for chunk in column.chunks:
        part = codes[end : (end := end + len(chunk))]
        values = (chunk.fill_null(low) if chunk.null_count else chunk).to_numpy()
        np.subtract(values, low, out=part, dtype=np.int64, casting="unsafe")
        if chunk.null_count:
            part[chunk.is_null().to_numpy(zero_copy_only=False)] = MISSING
    return EncodedColumn(codes, pa.array(np.arange(low, high + 1)), has_types=True)


def _encode_values(column: pa.ChunkedArray, has_types: bool) -> EncodedColumn:
    """Encode values with a dictionary, one for all chunks."""
    if (hashed := _encode_hashes(column, has_types)) is not None:
        return hashed
    is_encoded = pa.types.is_dictionary(column.type)
    encoded = column.unify_dictionaries() if is_encoded else column.dictionary_encode()
    codes = np.empty(len(encoded), dtype=np.int32)
    end = 0
    for chunk in encoded.chunks:
        indices = chunk.indices.fill_null(MISSING) if chunk.null_count else chunk.indices
        codes[end : (end := end + len(chunk))] = indices.to_numpy()
    kind = encoded.type.value_type
    distinct = encoded.chunk(0).dictionary if encoded.num_chunks else pa.array([], kind)
    distinct = distinct if pa.types.is_integer(kind) else distinct.cast(pa.string())
    return EncodedColumn(codes, distinct, has_types)


def _encode_hashes(column: pa.ChunkedArray, has_types: bool) -> EncodedColumn | None:
    """Encode text of one length by its hash, twice as fast if most rows differ; None for other."""
    if not is_text(column.type) or len(column.slice(0, _SAMPLE).unique()) <= _SAMPLE / 2:
        return None
    if not (chunks := _fixed_width(column)):
        return None
    with ThreadPoolExecutor(available_threads()) as pool:
        encoded = pa.array(np.concatenate([*pool.map(_hash, chunks)])).dictionary_encode()
        codes = np.array(encoded.indices)
        first = np.empty(len(encoded.dictionary), dtype=np.int64)
        first[codes[::-1]] = np.arange(len(codes))[::-1]
        distinct = column.take(pa.array(first)).combine_chunks().cast(pa.string())
        (values,) = _fixed_width(pa.chunked_array([distinct]))
        parts = np.split(codes, np.cumsum([len(chunk) for chunk in chunks])[:-1])
        is_same = pool.map(lambda chunk, part: (values[part] == chunk).all(), chunks, parts)
        return EncodedColumn(codes, distinct, has_types) if all(is_same) else None


def _fixed_width(text: pa.ChunkedArray) -> list[NDArray[np.bytes_]]:
    """The bytes of text by chunk, [n], if all values have equally many, at least 8; else none."""
    if text.null_count or (width := len(text[0].as_buffer())) < 8:
        return []
    try:
        chunks = text.cast(pa.binary(width)).chunks
    except pa.ArrowInvalid:
        return []
    return [
        np.frombuffer(chunk.buffers()[1], f"S{width}", len(chunk), chunk.offset * width)
        for chunk in chunks
        if len(chunk)
    ]


def _hash(text: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """Hashes of values of at least 8 bytes, [n]."""
    width = text.itemsize
    values = text.view(np.uint8).reshape(-1, width)
    hashes: NDArray[np.uint64] = np.zeros(len(text), dtype=np.uint64)
    for start in [*range(0, width - 8, 8), width - 8]:
        word = np.ascontiguousarray(values[:, start : start + 8]).view(np.uint64).ravel()
        hashes = (hashes ^ (hashes >> np.uint64(29)) ^ word) * _FACTOR
    return hashes


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type is text."""
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def _matches(text: pa.Array, pattern: str) -> _Mask:
    return to_bool(pc.match_substring_regex(text, pattern))


def to_bool(array: pa.Array) -> _Mask:
    """Convert an Arrow array of booleans to NumPy; null is false."""
    values: _Mask = array.fill_null(False).to_numpy(zero_copy_only=False)
    return values
