"""Readers of tables in memory, and the types of columns: one for all parts of a log."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns as names
from recsys.data.ids import is_text
from recsys.data.options import ReadOptions
from recsys.data.tables import RawTable, SourceFile, select_columns
from recsys.data.time_text import DECIMAL
from recsys.errors import DataError

_UNITS: Final = ("s", "ms", "us", "ns")
_ENCODED: Final = pa.dictionary(pa.int32(), pa.string())
_DATES: Final = (dt.date, np.datetime64)
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
        loaded, form = [_from_pandas(source, available, i) for i in positions], "pandas table"
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
    raise DataError(
        f"the source is of type {type(source).__name__}: pass a path, a pandas DataFrame or a "
        "table that supports Arrow; call collect() first on one that is lazy"
    )


def _pandas_names(frame: pd.DataFrame) -> list[str]:
    """Names of the columns of a DataFrame, then those of its index."""
    if frame.columns.nlevels > 1:
        raise DataError(
            f"the table: its columns have {frame.columns.nlevels} levels, as in "
            f"{frame.columns[0]!r}; keep one with table.columns.get_level_values(0)"
        )
    index = [name for name in frame.index.names if name is not None and name not in frame.columns]
    return [str(name) for name in [*frame.columns, *index]]


def _from_pandas(frame: pd.DataFrame, available: Sequence[str], i: int) -> pa.ChunkedArray:
    """One column of a DataFrame."""
    if i >= len(frame.columns):
        raise DataError(
            f"the table: {available[i]!r} is its index, not a column; call reset_index() first"
        )
    values = frame.iloc[:, i]
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        values = values.dt.tz_convert(None)
    try:
        if values.dtype == object and isinstance(next(iter(values.dropna()), None), _DATES):
            values = _to_datetimes(values)
        array = pa.array(values, from_pandas=True)
    except _ERRORS as error:
        raise DataError(
            f"the table, column {available[i]!r}: is of type {values.dtype} and cannot be read as "
            f"Arrow: {error}; convert it to integers, text or datetimes"
        ) from error
    return pa.chunked_array(array if isinstance(array, pa.ChunkedArray) else [array])


def _to_datetimes(objects: pd.Series) -> pd.Series:
    """Dates and times, which Arrow cuts to microseconds, or to the days of the first."""
    for value in objects.dropna():
        if not isinstance(value, _DATES):
            raise TypeError(f"{value!r} is not a date, as others are")
    return pd.to_datetime(objects, utc=True).dt.tz_convert(None)


def concat(tables: Sequence[RawTable]) -> RawTable:
    """Join the parts of a log, whose columns get one type each; see `common_type`.

    Raises:
        DataError: The parts have different columns, or types that do not go together.
    """
    first = tables[0]
    for table in tables[1:]:
        require_same_columns(table.files[0].name, table.columns, first.files[0].name, first.columns)
    joined = {}
    for ours in first.columns:
        parts = {table.where(ours): table.columns[ours] for table in tables}
        if first.has_types:
            columns = _convert_all(ours, parts)
        elif len({part.type for part in parts.values()}) > 1:
            columns = [part.cast(pa.large_string()) for part in parts.values()]
        else:
            columns = [*parts.values()]
        chunks = [chunk for column in columns for chunk in column.chunks]
        joined[ours] = pa.chunked_array(chunks, columns[0].type)
    files = [file for table in tables for file in table.files]
    used = {name for table in tables for name in table.source_names.values()}
    unused = dict.fromkeys(name for table in tables for name in table.unused if name not in used)
    return RawTable(joined, files, first.source_names, first.has_types, [*unused])


def require_same_columns(
    part: str, columns: Collection[str], first: str, of_first: Collection[str]
) -> None:
    """Refuse a part of a log that has other known columns than the first."""
    if {*columns} != {*of_first}:
        raise DataError(
            f"{part}: has the columns {', '.join(columns)}, but {first} has {', '.join(of_first)}; "
            "all parts of a log need the same: add what is missing, or choose with files="
        )


def common_type(ours: str, types: Mapping[str, pa.DataType]) -> pa.DataType:
    """The type of one of our columns in all parts, given its types by location.

    Ids are 64-bit integers, and ratings are numbers, unless they are text in some part. Times have
    the finest unit, and those without a zone are UTC; times as numbers of several types are
    decimals.

    Raises:
        DataError: A type is not supported, or times are of different kinds.
    """
    kinds: dict[pa.DataType, str] = {}
    for where, kind in types.items():
        kinds.setdefault(_type_as_read(ours, kind, where), where)
    if len(kinds) > 1:
        kinds.pop(pa.null(), None)
    if len(kinds) == 1:
        return next(iter(kinds))
    if all(map(pa.types.is_timestamp, kinds)):
        return pa.timestamp(max((kind.unit for kind in kinds), key=_UNITS.index))
    if ours == names.TIMESTAMP:
        if kinds.keys() <= {pa.int64(), pa.float64(), DECIMAL}:
            return DECIMAL
        first, second = [*kinds.values()][:2]
        raise DataError(
            f"{first}: is of type {types[first]}, but {second}: is of type {types[second]}; save "
            "the times of all parts as one type"
        )
    return pa.int64() if kinds.keys() == {pa.int64(), pa.float64()} else pa.large_string()


def _type_as_read(ours: str, kind: pa.DataType, where: str) -> pa.DataType:
    """The type as which a column of some type is read if it is alone."""
    if pa.types.is_dictionary(kind):
        return _type_as_read(ours, kind.value_type, where)
    is_decimal = pa.types.is_decimal(kind)
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or is_decimal
    is_small = kind in (pa.float16(), pa.float32())  # with seven digits at most
    is_code = ours == names.EVENT and pa.types.is_integer(kind)
    if _is_text(kind) or is_code:
        return pa.large_string()
    if pa.types.is_null(kind) or ours == names.EVENT:  # of another type, it is not used
        return kind
    if ours == names.TIMESTAMP:
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            return pa.timestamp(getattr(kind, "unit", "s"))
        if is_number and not is_small:
            is_float = pa.types.is_floating(kind)
            return DECIMAL if is_decimal else pa.float64() if is_float else pa.int64()
        accepted = "timestamps are times, numbers or text"
    elif ours == names.RATING:
        if is_number or pa.types.is_boolean(kind):
            return pa.float64()
        accepted = "ratings are numbers"
    else:
        if is_number and not is_small:
            return pa.int64()
        accepted = "ids are integers or text"
    raise DataError(
        f"{where}: is of type {kind}, but {accepted}; convert it, or name another column with "
        f"columns = {{{ours} = ...}}"
    )


def _convert_all(ours: str, parts: Mapping[str, pa.ChunkedArray]) -> list[pa.ChunkedArray]:
    """The parts of a column, by location, with one type: text for ids beyond 64 bits."""
    target = common_type(ours, {where: part.type for where, part in parts.items()})
    try:
        return [convert(ours, part, target, where) for where, part in parts.items()]
    except _TooLargeError:
        return [convert(ours, part, pa.large_string(), where) for where, part in parts.items()]


class _TooLargeError(DataError):
    """Ids do not fit into 64 bits."""


def convert(ours: str, column: pa.ChunkedArray, target: pa.DataType, where: str) -> pa.ChunkedArray:
    """Convert a column at a location to the type that `common_type` has chosen.

    Raises:
        DataError: It holds other text than UTF-8, floats that may have lost digits, or values
            that do not fit into this type.
    """
    kind = column.type
    try:
        column.validate(full=True)
        if pa.types.is_dictionary(kind):
            if is_text(kind.value_type):
                column = column.cast(_ENCODED)  # Arrow decodes no other dictionary of views
            column = column.cast(column.type.value_type)
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), None, column.cast(pa.float64()))
            largest = pc.max(pc.abs(column)).as_py() or 0
            if ours in names.IDS and 2**53 <= largest < math.inf:
                raise DataError(
                    f"{where}: {largest:.0f} is stored as {kind}, which loses digits beyond "
                    f"{2**53}; save the column as 64-bit integers (in pandas, Int64) or text"
                )
            if target == DECIMAL:  # with the digits that Python prints
                is_small = pc.less(pc.abs(column), 2.0**63)
                column = pc.if_else(is_small, column, None).cast(pa.large_string())
                return column.cast(DECIMAL, safe=False)
        if pa.types.is_decimal32(column.type) or pa.types.is_decimal64(column.type):
            column = column.cast(pa.decimal128(38, column.type.scale))  # others become no integers
        if is_text(target) and ours in names.IDS and not _is_text(kind):
            # 10 for 10.0 and 10.00; floats would be rounded to decimals
            is_float = pa.types.is_floating(column.type)
            column = column.cast(pa.int64() if is_float else pa.decimal256(76, 0))
        if pa.types.is_timestamp(target):
            column = _clip_times(column, target.unit)
        return column.cast(target)
    except pa.ArrowInvalid as error:
        large = pa.types.is_decimal(column.type) or column.type == pa.uint64()
        raise (_TooLargeError if large and ours in names.IDS else DataError)(
            f"{where}: is of type {kind} and cannot be read as {target}: {error}; convert the "
            "column to 64-bit integers or text"
        ) from error


def _clip_times(column: pa.ChunkedArray, unit: str) -> pa.ChunkedArray:
    """Times, those that do not fit into a finer unit at the ends of what does."""
    kind = pa.timestamp(getattr(column.type, "unit", "s"))
    finer = _UNITS.index(unit) - _UNITS.index(kind.unit)
    if finer <= 0:
        return column
    most = (2**63 - 1) // 1000**finer
    ticks = column.cast(kind).cast(pa.int64())
    ticks = pc.min_element_wise(ticks, most, skip_nulls=False)
    return pc.max_element_wise(ticks, -most, skip_nulls=False).cast(kind)


def _is_text(kind: pa.DataType) -> bool:
    """Whether values of a type are read as text."""
    return is_text(kind.value_type if pa.types.is_dictionary(kind) else kind)
