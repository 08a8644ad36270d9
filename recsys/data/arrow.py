"""Readers of tables in memory, and the types of columns: one for all parts of a log."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns as names
from recsys.data.ids import is_text, to_text
from recsys.data.options import ReadOptions
from recsys.data.tables import RawTable, SourceFile, select_columns
from recsys.errors import DataError

_ACCEPTED: Final = {
    names.USER_ID: "ids are integers or text",
    names.ITEM_ID: "ids are integers or text",
    names.SESSION_ID: "ids are integers or text",
    names.RATING: "ratings are numbers",
    names.TIMESTAMP: "timestamps are times, numbers or text",
}
_SCALARS: Final = (
    str, int, float, decimal.Decimal, uuid.UUID, dt.date, np.number, np.bool_, np.datetime64,
)  # fmt: skip
_ENCODED: Final = pa.dictionary(pa.int32(), pa.string())
_UNITS: Final = ("s", "ms", "us", "ns")
_DIGITS: Final = {pa.float16(): 11, pa.float32(): 24, pa.float64(): 53}
_ERRORS: Final = (pa.ArrowException, OverflowError, TypeError, ValueError)


class ArrowStream(Protocol):
    """A table of any library that supports Arrow, such as polars, DuckDB or pyarrow."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The table as a PyCapsule of a stream."""


def read_table(source: Any, options: ReadOptions = ReadOptions()) -> RawTable:
    """Read the known columns of a table in memory, which is not modified.

    Raises:
        DataError: It is no table, lacks a required column, or has one of an unsupported type.
    """
    table = None if isinstance(source, pd.DataFrame) else _to_table(source)
    available = _pandas_names(source) if table is None else table.column_names
    selected = select_columns(available, options, "the table")
    positions = [*selected.positions.values()]
    if table is None:
        loaded, form = _load_pandas(source, available, positions)
    else:
        loaded, form = [table.column(i) for i in positions], "Arrow table"
    raw = RawTable(
        dict(zip(selected.positions, loaded, strict=True)),
        [SourceFile("the table", len(source if table is None else table), format=form)],
        selected.source_names,
        has_types=True,
        unused=selected.unused,
    )
    return concat([raw])


def _to_table(source: Any) -> pa.Table:
    if hasattr(source, "__arrow_c_stream__") or hasattr(source, "__arrow_c_array__"):
        try:
            return pa.table(source)
        except _ERRORS as error:
            raise DataError(
                f"the table, of type {type(source).__name__}, cannot be read as Arrow: {error}; "
                "pass a table with the needed columns only"
            ) from error
    remedy = "pass a path, a pandas DataFrame or a table that supports Arrow"
    if hasattr(source, "collect"):
        remedy = "call collect() first"
    elif hasattr(source, "__dataframe__"):
        remedy = "convert it to pandas or Arrow first"
    raise DataError(f"the source is of type {type(source).__name__}: {remedy}")


def _pandas_names(frame: pd.DataFrame) -> list[str]:
    """Names of the columns of a DataFrame, then those of its index."""
    if frame.columns.nlevels > 1:
        raise DataError(
            f"the table: its columns have {frame.columns.nlevels} levels, as in "
            f"{frame.columns[0]!r}; keep one with table.columns.get_level_values(0)"
        )
    index = [name for name in frame.index.names if name is not None and name not in frame.columns]
    return [str(name) for name in [*frame.columns, *index]]


def _load_pandas(
    frame: pd.DataFrame, available: Sequence[str], positions: Sequence[int]
) -> tuple[list[pa.ChunkedArray], str]:
    """Some columns of a DataFrame, and the format."""
    columns, form = [], "pandas table"
    for i in positions:
        if i >= len(frame.columns):
            raise DataError(
                f"the table: {available[i]!r} is its index, not a column; call reset_index() first"
            )
        array, types = _from_pandas(frame.iloc[:, i], f"column {available[i]!r}")
        columns.append(pa.chunked_array(array if isinstance(array, pa.ChunkedArray) else [array]))
        if len(types) > 1:
            form += f"; {available[i]!r} holds {' and '.join(types)}, read as text"
    return columns, form


def _from_pandas(values: pd.Series[Any], column: str) -> tuple[Any, list[str]]:
    """A column of a DataFrame, and the types of its objects if they became text."""
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        values = values.dt.tz_convert(None)  # times without a zone are UTC
    try:
        array = pa.array(values, from_pandas=True)
        if values.dtype == object and pa.types.is_timestamp(plain_type(array.type)):
            # Arrow cuts objects to microseconds, or to the days of the first.
            times = pd.to_datetime(values, utc=True).dt.tz_convert(None)
            array = pa.array(times, from_pandas=True)
    except _ERRORS as error:
        if values.dtype != object and not isinstance(values.dtype, pd.CategoricalDtype):
            raise DataError(
                f"the table, {column}: is of type {values.dtype}, which Arrow does not have; "
                "convert it to integers, text or datetimes"
            ) from error
        array, types = objects_to_text([*values], lambda row: f"the table, row {row}, {column}")
        return array, types
    return array, []


def objects_to_text(
    values: Sequence[Any], where: Callable[[int], str]
) -> tuple[pa.Array, list[str]]:
    """Objects of several types as text, and the names of their types.

    `True` and `1` stay two values, `1.0` and `1` are one. `where` gives the location of a value.
    """
    text: list[str | None] = []
    types = set()
    for row, value in enumerate(values):
        if pd.api.types.is_scalar(value) and pd.isna(value):
            text.append(None)
            continue
        if not isinstance(value, _SCALARS):
            raise DataError(
                f"{where(row)}: {value!r} is of type {type(value).__name__}; convert the column "
                "to numbers or text, or name another one with columns="
            )
        types.add(type(value).__name__)
        is_whole = isinstance(value, (float, np.floating)) and value.is_integer()
        text.append(f"{value:.0f}" if is_whole else str(value))
    return pa.array(text, pa.string()), sorted(types)


def concat(tables: Sequence[RawTable]) -> RawTable:
    """Join the parts of a log, whose columns get one type each; see `choose_types`.

    Raises:
        DataError: The parts have different columns, or types that do not go together.
    """
    first = tables[0]
    for table in tables[1:]:
        require_same_columns(table.files[0].name, table.columns, first.files[0].name, first.columns)
    joined = {}
    for ours in first.columns:
        parts = {table.where(ours): table.columns[ours] for table in tables}
        types = {where: part.type for where, part in parts.items()}
        if first.has_types:
            columns = convert(ours, parts, choose_types(ours, types))
        elif len({*types.values()}) > 1:
            columns = [to_text(part) for part in parts.values()]
        else:
            columns = [*parts.values()]
        chunks = [chunk for column in columns for chunk in column.chunks]
        joined[ours] = pa.chunked_array(chunks, columns[0].type)
    files = [file for table in tables for file in table.files]
    if first.has_types and len(tables) > 1:
        files = [_tell_changes(table, joined) for table in tables]
    used = {name for table in tables for name in table.source_names.values()}
    unused = dict.fromkeys(name for table in tables for name in table.unused if name not in used)
    return RawTable(joined, files, first.source_names, first.has_types, [*unused])


def _tell_changes(table: RawTable, joined: Mapping[str, pa.ChunkedArray]) -> SourceFile:
    """The file of a part, with the columns whose type here is not that of the whole log."""
    changes = [
        f"{table.source_names[ours]!r} is {column.type}, read as "
        f"{'text' if is_text(plain_type(joined[ours].type)) else joined[ours].type}"
        for ours, column in table.columns.items()
        if plain_type(column.type) != plain_type(joined[ours].type)
    ]
    return replace(table.files[0], format="; ".join([table.files[0].format, *changes]))


def require_same_columns(
    part: str, columns: Collection[str], first: str, of_first: Collection[str]
) -> None:
    """Refuse a part of a log that has other known columns than the first."""
    if {*columns} != {*of_first}:
        raise DataError(
            f"{part}: has the columns {', '.join(columns)}, but {first} has {', '.join(of_first)}; "
            "all parts of a log need the same: add what is missing, or choose with files="
        )


def choose_types(ours: str, types: Mapping[str, pa.DataType]) -> list[pa.DataType]:
    """The type of one of our columns in all parts, given its types by location.

    If there are several, the first that holds all values is meant. Ids and ratings that are text
    in one part are text in all; times have the finest unit, and those without a zone are UTC.

    Raises:
        DataError: A type is not supported, or times are of different kinds.
    """
    kinds = _locate_types(ours, types)
    has_text, has_times, has_floats, has_decimals = (
        any(map(test, kinds))
        for test in (is_text, pa.types.is_timestamp, pa.types.is_floating, pa.types.is_decimal)
    )
    is_wide = has_decimals or pa.uint64() in kinds or (has_floats and ours in names.IDS)
    if has_text and ours in names.IDS and all(map(pa.types.is_dictionary, types.values())):
        return [_ENCODED]  # much faster than to encode the text again
    if len(kinds) == 1 and not is_wide:
        return [*kinds]
    if has_times and all(map(pa.types.is_timestamp, kinds)):
        return [pa.timestamp(max((kind.unit for kind in kinds), key=_UNITS.index))]
    if ours == names.TIMESTAMP and (has_times or has_text):
        first, second = list(kinds.values())[:2]
        raise DataError(
            f"{first}: is of type {types[first]}, but {second}: is of type {types[second]}; save "
            "the times of all parts as one type"
        )
    if has_text:
        return [pa.large_string()]
    if ours == names.RATING:
        return [pa.float64()]
    if not (is_wide or has_floats):
        return [pa.int64()]
    return [pa.int64(), *([] if has_decimals else [pa.float64()]), pa.large_string()]


def _locate_types(ours: str, types: Mapping[str, pa.DataType]) -> dict[pa.DataType, str]:
    """The plain types of a column, without null beside others, and where each comes first."""
    kinds: dict[pa.DataType, str] = {}
    for where, kind in types.items():
        if not _is_accepted(ours, plain_type(kind)):
            raise DataError(
                f"{where}: is of type {kind}, but {_ACCEPTED[ours]}; convert it, or name another "
                f"column with columns = {{{ours} = ...}}"
            )
        kinds.setdefault(plain_type(kind), where)
    if len(kinds) > 1:
        kinds.pop(pa.null(), None)
    return kinds


def convert(
    ours: str, parts: Mapping[str, pa.ChunkedArray], targets: Sequence[pa.DataType]
) -> list[pa.ChunkedArray]:
    """Convert the parts of a column, by location, to the first of some types that fits all."""
    plain = {where: _decode(column, ours, where) for where, column in parts.items()}
    for target in targets[:-1]:
        try:
            return [column.cast(target) for column in plain.values()]
        except pa.ArrowInvalid:
            continue
    return [_cast(column, targets[-1], where) for where, column in plain.items()]


def _cast(column: pa.ChunkedArray, target: pa.DataType, where: str) -> pa.ChunkedArray:
    try:
        return to_text(column) if is_text(target) else column.cast(target)
    except pa.ArrowException as error:
        raise DataError(
            f"{where}: cannot be read as {target}: {error}; convert the column"
        ) from error


def _decode(column: pa.ChunkedArray, ours: str, where: str) -> pa.ChunkedArray:
    """A column of a plain type, with NaN as null."""
    kind = column.type
    try:
        column.validate(full=True)
    except pa.ArrowException as error:
        raise DataError(f"{where}: cannot be read as {kind}: {error}") from error
    if pa.types.is_dictionary(kind):
        if is_text(kind.value_type):
            column = column.cast(_ENCODED)
            # A value that occurs twice would be two ids, and one that is null is none.
            found = [chunk.dictionary for chunk in column.chunks]
            if not any(f.null_count or len(f.unique()) < len(f) for f in found):
                return column
        column = column.cast(column.type.value_type)
    if kind == pa.uuid():
        chunks = [_uuid_to_text(chunk.storage) for chunk in column.chunks]
        column = pa.chunked_array(chunks, pa.large_string())
    if pa.types.is_floating(column.type):
        _require_digits(column, ours, where)
        column = column.cast(plain_type(column.type))
        if pc.any(pc.is_nan(column)).as_py():
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column


def _require_digits(column: pa.ChunkedArray, ours: str, where: str) -> None:
    """Refuse ids in floats, and times in small floats, so large that digits may be lost."""
    digits = _DIGITS[column.type]
    if ours == names.RATING or (ours == names.TIMESTAMP and digits == 53):
        return
    values = column.cast(pa.float64())
    largest = pc.max(pc.abs(values.filter(pc.is_finite(values)))).as_py() or 0
    if largest >= 2**digits:
        raise DataError(
            f"{where}: {largest:.0f} is stored as {column.type}, which loses digits beyond "
            f"{2**digits}; save the column as 64-bit integers (in pandas, Int64) or text"
        )


def _uuid_to_text(storage: pa.Array) -> pa.Array:
    encoded = storage.dictionary_encode()
    text = [str(uuid.UUID(bytes=value)) for value in encoded.dictionary.to_pylist()]
    return pa.array(text, pa.large_string()).take(encoded.indices)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values in memory: of a dictionary, its values; of a date, its midnight."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_date(kind):
        return pa.timestamp("s" if kind == pa.date32() else "ms")
    if is_text(kind) or kind == pa.uuid():
        return pa.large_string()
    return pa.float32() if kind == pa.float16() else kind


def _is_accepted(ours: str, kind: pa.DataType) -> bool:
    if pa.types.is_boolean(kind):
        return ours == names.RATING
    if pa.types.is_timestamp(kind):
        return ours == names.TIMESTAMP
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return is_number or pa.types.is_decimal(kind) or is_text(kind) or pa.types.is_null(kind)
