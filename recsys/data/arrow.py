"""Readers of tables in memory, and the types of columns: one for all parts of a log."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns as names
from recsys.data.ids import is_text
from recsys.data.options import ReadOptions
from recsys.data.tables import RawTable, SourceFile, select_columns, unused_columns
from recsys.errors import DataError

_IDS: Final = (names.USER_ID, names.ITEM_ID)
_ENCODED_TEXT: Final = pa.dictionary(pa.int32(), pa.string())
_NUMBERS: Final = {"integer", "float", "decimal", "null"}
_ALLOWED: Final = {
    names.USER_ID: ("ids are integers or text", {*_NUMBERS, "text"}),
    names.ITEM_ID: ("ids are integers or text", {*_NUMBERS, "text"}),
    names.RATING: ("ratings are numbers", {*_NUMBERS, "text", "boolean"}),
    names.TIMESTAMP: ("timestamps are times, numbers or text", {*_NUMBERS, "text", "time"}),
}
"""What each column may hold: in words, and as results of `_family`."""
_SCALARS: Final = (
    str, int, float, decimal.Decimal, uuid.UUID, dt.date, np.number, np.bool_, np.datetime64,
)  # fmt: skip
_UNITS: Final = ("s", "ms", "us", "ns")

_Load = Callable[[Sequence[int]], tuple[list[pa.ChunkedArray], str]]


class ArrowStream(Protocol):
    """A table of any library that supports Arrow, such as polars, DuckDB or pyarrow."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The table as a PyCapsule of a stream."""


def read_table(source: Any, options: ReadOptions = ReadOptions()) -> RawTable:
    """Read the known columns of a table in memory, which is not modified.

    Raises:
        DataError: It is no table, lacks a required column, or has one of an unsupported type.
    """
    name = "the table"
    is_pandas = isinstance(source, pd.DataFrame)
    available, load = _open_pandas(source) if is_pandas else _open_arrow(source)
    selected = select_columns(available, options, name)
    loaded, form = load(list(selected.values()))
    source_names = {ours: available[i] for ours, i in selected.items()}
    columns = {}
    for ours, column in zip(selected, loaded, strict=True):
        where = f"{name}, column {source_names[ours]!r}"
        target = unite_types(ours, {where: column.type})
        columns[ours] = unite_values([convert(column, ours, target, where)])
    unused = unused_columns(available, selected)
    file = SourceFile(name, len(loaded[0]), format=form)
    return RawTable(columns, [file], source_names, has_types=True, unused=unused)


def _open_arrow(source: Any) -> tuple[list[str], _Load]:
    """Column names of a table that supports Arrow, and what loads some columns."""
    try:
        if hasattr(source, "__arrow_c_stream__"):
            reader = pa.RecordBatchReader.from_stream(source)
        elif hasattr(source, "__arrow_c_array__"):
            batch = pa.record_batch(source)
            reader = pa.RecordBatchReader.from_batches(batch.schema, [batch])
        else:
            remedy = "pass a path, a pandas DataFrame or a table that supports Arrow"
            if hasattr(source, "collect"):
                remedy = "call collect() first"
            elif hasattr(source, "__dataframe__"):
                remedy = "convert it to pandas or Arrow first"
            raise DataError(f"the source is of type {type(source).__name__}: {remedy}")
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(
            f"the table, of type {type(source).__name__}, cannot be read as Arrow: {error}; pass a "
            "table with the needed columns only"
        ) from error

    def load(positions: Sequence[int]) -> tuple[list[pa.ChunkedArray], str]:
        try:
            batches = [[batch.column(i) for i in positions] for batch in reader]
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"the table: cannot be read as Arrow: {error}") from error
        types = [reader.schema.field(i).type for i in positions]
        columns = [[batch[k] for batch in batches] for k in range(len(positions))]
        return [pa.chunked_array(c, t) for c, t in zip(columns, types, strict=True)], "Arrow table"

    return reader.schema.names, load


def _open_pandas(frame: pd.DataFrame) -> tuple[list[str], _Load]:
    """Column names of a DataFrame, with those of its index last, and what loads some columns."""
    if frame.columns.nlevels > 1:
        raise DataError(
            f"the table: its columns have {frame.columns.nlevels} levels, as in "
            f"{frame.columns[0]!r}; keep one with table.columns.get_level_values(0)"
        )
    available = [str(name) for name in frame.columns]
    index = [str(name) for name in frame.index.names if name is not None]

    def load(positions: Sequence[int]) -> tuple[list[pa.ChunkedArray], str]:
        if hidden := [index[i - len(available)] for i in positions if i >= len(available)]:
            raise DataError(
                f"the table: {hidden[0]!r} is its index, not a column; call reset_index() first"
            )
        arrays, mixed = [], ""
        for i in positions:
            array, types = _to_arrow(frame.iloc[:, i], available[i])
            arrays.append(array if isinstance(array, pa.ChunkedArray) else pa.chunked_array(array))
            mixed += f"; {available[i]!r} holds {' and '.join(types)}, read as text" * bool(types)
        return arrays, f"pandas table{mixed}"

    index = [name for name in index if name not in available]
    return [*available, *index], load


def _to_arrow(values: pd.Series[Any], name: str) -> tuple[Any, list[str]]:
    """A column of a DataFrame, and the names of its types if there are several."""
    if isinstance(values.dtype, pd.SparseDtype):
        values = pd.Series(values.to_numpy())
    elif isinstance(values.dtype, pd.DatetimeTZDtype):
        values = values.dt.tz_convert(None)  # times without a zone are UTC
    try:
        array = pa.array(values, from_pandas=True)
        if values.dtype == object and _family(array.type) == "time":
            # Arrow cuts objects to microseconds, or to the days of the first.
            times = pd.to_datetime(values, utc=True).dt.tz_convert(None)
            array = pa.array(times, from_pandas=True)
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        if isinstance(values.dtype, pd.CategoricalDtype):
            return _objects_to_text(values.astype(object), name)
        if values.dtype != object:
            raise DataError(
                f"the table, column {name!r}: is of type {values.dtype}, which Arrow does not "
                "have; convert it to integers, text or datetimes"
            ) from error
        return _objects_to_text(values, name)
    return array if isinstance(array, pa.ChunkedArray) else [array], []


def _objects_to_text(values: pd.Series[Any], name: str) -> tuple[Any, list[str]]:
    """Objects of several types as text; `True` and `1` stay two, `1.0` and `1` are one."""
    text: list[str | None] = []
    types = set()
    for row, (value, is_missing) in enumerate(zip(values, values.isna(), strict=True)):
        if not is_missing and not isinstance(value, _SCALARS):
            raise DataError(
                f"the table, row {row}, column {name!r}: {value!r} is of type "
                f"{type(value).__name__}; convert the column to numbers or text"
            )
        if is_missing:
            text.append(None)
            continue
        types.add(type(value).__name__)
        is_whole = isinstance(value, (float, np.floating)) and value.is_integer()
        text.append(str(int(value) if is_whole else value))
    return [pa.array(text, pa.string())], sorted(types) if len(types) > 1 else []


def unite_types(name: str, types: Mapping[str, pa.DataType]) -> pa.DataType | None:
    """The type of one of our columns in all parts, given its types by part; None: see values.

    Integers become 64-bit integers; ids that are text in one part are text in all; ratings of
    several types become float64; times have the finest unit, and those without a zone are UTC.

    Raises:
        DataError: A type is not supported, or times are of different kinds.
    """
    wanted, allowed = _ALLOWED[name]
    families: dict[str, str] = {}
    for where, kind in types.items():
        family = _family(kind)
        if family not in allowed:
            raise DataError(
                f"{where}: is of type {kind}, but {wanted}; convert it, or name another column "
                f"with columns = {{{name} = ...}}"
            )
        families.setdefault(family, where)
    families.pop("null", None)
    if name == names.TIMESTAMP and len(families) > 1 and not families.keys() <= _NUMBERS:
        (_, first), (_, second) = list(families.items())[:2]
        raise DataError(
            f"{first}: is of type {types[first]}, but {second}: is of type {types[second]}; save "
            "the times of all parts as one type"
        )
    present = {kind for kind in types.values() if not pa.types.is_null(kind)}
    if "text" in families:
        is_encoded = all(pa.types.is_dictionary(kind) or kind == pa.uuid() for kind in present)
        if name in _IDS and is_encoded and len(families) == 1:
            return _ENCODED_TEXT
        return pa.large_string() if present == {pa.large_string()} else pa.string()
    kinds = {_plain(kind) for kind in present}
    if "time" in families and len(kinds) > 1:
        return pa.timestamp(max((kind.unit for kind in kinds), key=_UNITS.index))
    if name == names.RATING:
        is_number = families.keys() <= {"integer", "float"}
        return kinds.pop() if is_number and len(kinds) == 1 else pa.float64()
    if "decimal" in families or len(families) > 1 or pa.uint64() in kinds:
        return None
    if name == names.TIMESTAMP and "time" not in families:
        return pa.float64() if "float" in families else pa.int64()
    return kinds.pop() if len(kinds) == 1 else pa.float64() if "float" in families else pa.int64()


def unite_values(parts: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    """Concatenate the parts of a column.

    If their types differ or are not plain, they become integers or float64 if none loses a digit,
    else text.
    """
    kinds = {part.type for part in parts}
    if len(kinds) > 1 or pa.uint64() in kinds or any(map(pa.types.is_decimal, kinds)):
        parts = _exact(parts)
    return pa.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type)


def _exact(parts: Sequence[pa.ChunkedArray]) -> list[pa.ChunkedArray]:
    """Numbers of several types as one that loses nothing."""
    targets = [pa.int64()]
    if not any(pa.types.is_decimal(part.type) for part in parts):
        targets.append(pa.float64())
    for target in targets:
        try:
            return [part.cast(target) for part in parts]
        except pa.ArrowInvalid:
            continue
    return [_cast_to_text(part) for part in parts]


def convert(
    column: pa.ChunkedArray, name: str, target: pa.DataType | None, where: str
) -> pa.ChunkedArray:
    """Convert a column to the type of `unite_types`."""
    try:
        column.validate(full=True)
        column = _decode(column, name, where)
        if target is None or column.type == target:
            return column
        return (_cast_to_text(column) if is_text(target) else column).cast(target)
    except pa.ArrowException as error:
        wanted = f" as {target}" if target else ""
        raise DataError(f"{where}: cannot be read{wanted}: {error}") from error


def _decode(column: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    """A column of a plain type, with NaN as null; text ids may stay dictionaries."""
    kind = column.type
    if pa.types.is_run_end_encoded(kind):
        column = _map_chunks(pc.run_end_decode, column, kind.value_type)
    if kind == pa.uuid():
        column = _map_chunks(_uuid_to_text, column, _ENCODED_TEXT)
    if pa.types.is_dictionary(column.type):
        column = _decode_dictionary(column, name in _IDS)
    if pa.types.is_floating(column.type):
        kind = column.type
        _require_digits(column, name, where)
        column = column.cast(pa.float32()) if kind == pa.float16() else column
        if pc.any(pc.is_nan(column)).as_py():
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column


def _decode_dictionary(column: pa.ChunkedArray, keep_text: bool) -> pa.ChunkedArray:
    if not is_text(column.type.value_type):
        return column.cast(column.type.value_type)
    column = column.cast(_ENCODED_TEXT)
    # A value may occur twice or be null, and would then be several ids, or one.
    is_unique = all(
        not chunk.dictionary.null_count and len(chunk.dictionary.unique()) == len(chunk.dictionary)
        for chunk in column.chunks
    )
    if keep_text:
        return column if is_unique else column.cast(pa.string()).dictionary_encode()
    return column.cast(pa.string())


def _require_digits(column: pa.ChunkedArray, name: str, where: str) -> None:
    """Refuse ids in floats, and times in small floats, so large that digits may be lost."""
    digits = {pa.float16(): 11, pa.float32(): 24, pa.float64(): 53}[column.type]
    if name == names.RATING or (name == names.TIMESTAMP and digits == 53):
        return
    values = column.cast(pa.float64())
    largest = pc.max(pc.abs(values.filter(pc.is_finite(values)))).as_py() or 0
    if largest >= 2**digits:
        raise DataError(
            f"{where}: {largest:.0f} is stored as {column.type}, which loses digits beyond "
            f"{2**digits}; save the column as 64-bit integers (in pandas, Int64) or text"
        )


def _cast_to_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values as text; whole numbers without a fraction or an exponent."""
    if pa.types.is_floating(column.type):
        try:
            column = column.cast(pa.int64())
        except pa.ArrowInvalid:
            column = column.cast(pa.float64())
    return column.cast(pa.string())


def _uuid_to_text(chunk: Any) -> pa.DictionaryArray:
    encoded = chunk.storage.dictionary_encode()
    text = [str(uuid.UUID(bytes=value)) for value in encoded.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(encoded.indices, pa.array(text, pa.string()))


def _map_chunks(
    function: Callable[[Any], Any], column: pa.ChunkedArray, kind: pa.DataType
) -> pa.ChunkedArray:
    return pa.chunked_array([function(chunk) for chunk in column.chunks], kind)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type of a column of a dictionary; dates are times at midnight."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _plain(kind.value_type)
    if kind == pa.float16():
        return pa.float32()
    if pa.types.is_date(kind):
        return pa.timestamp("s" if kind == pa.date32() else "ms")
    return kind


def _family(kind: pa.DataType) -> str:
    """What a type holds, in one word."""
    kind = _plain(kind)
    tests = {
        "text": lambda kind: is_text(kind) or kind == pa.uuid(),
        "integer": pa.types.is_integer,
        "float": pa.types.is_floating,
        "decimal": pa.types.is_decimal,
        "boolean": pa.types.is_boolean,
        "time": pa.types.is_timestamp,
        "null": pa.types.is_null,
    }
    return next((family for family, is_kind in tests.items() if is_kind(kind)), "other")
