"""Reader of Parquet files, whose columns and types are settled over all parts of a log."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet

from recsys.columns import TIMESTAMP
from recsys.data.arrow import convert, unite_types, unite_values
from recsys.data.detection import DetectedLayout
from recsys.data.files import READ_ERRORS
from recsys.data.options import ReadOptions
from recsys.data.quarantine import MARK
from recsys.data.tables import COLUMNS, RawTable, SourceFile, select_columns
from recsys.errors import DataError

_NO_VALUE: Final = ("", "__HIVE_DEFAULT_PARTITION__")
_INTEGER: Final = re.compile("0|-?[1-9][0-9]{0,18}")


@dataclass(frozen=True)
class ParquetPart:
    """A Parquet file, and how its columns are read."""

    path: Path
    name: str
    """The location, for messages."""
    n_rows: int
    n_row_groups: int
    schema: pa.Schema
    partitions: Mapping[str, str | None]
    """Values in names of folders such as `user_id=007`, which keep their text."""
    source_names: Mapping[str, str] = field(default_factory=dict)
    """Names of the columns, or of partitions, by ours."""
    types: Mapping[str, pa.DataType | None] = field(default_factory=dict)
    """Types to convert to, the same in all parts; see `unite_types`."""

    @property
    def available(self) -> list[str]:
        """Names of all columns and partitions."""
        columns: list[str] = self.schema.names
        return [*columns, *(name for name in self.partitions if name not in columns)]

    def where(self, ours: str) -> str:
        """The location of one of our columns, for messages."""
        return f"{self.name}, column {self.source_names[ours]!r}"

    def source_type(self, ours: str) -> pa.DataType | None:
        """The type of one of our columns in the file; None if it is a partition."""
        name = self.source_names[ours]
        return self.schema.field(name).type if name in self.schema.names else None

    def read(self, row_groups: Sequence[int] | None = None) -> pa.Table:
        """Read our columns of some row groups, or of all."""
        stored = [name for name in self.source_names.values() if name in self.schema.names]
        try:
            with pyarrow.parquet.ParquetFile(self.path) as file:
                groups = list(range(self.n_row_groups) if row_groups is None else row_groups)
                table = file.read_row_groups(groups, columns=stored)
                has_int96 = any(
                    column.path in stored and column.physical_type == "INT96"
                    for column in map(file.schema.column, range(len(file.schema)))
                )
        except READ_ERRORS as error:
            raise DataError(f"{self.name}: cannot be read as Parquet: {error}") from error
        if has_int96:
            self._check_int96(groups)
        columns = {}
        for ours, name in self.source_names.items():
            if name not in stored:
                values = pa.repeat(pa.scalar(self.partitions[name], pa.string()), len(table))
                column = pa.chunked_array([values])
            else:
                column = table[name]
                check_partition(column, name, self.partitions, self.where(ours))
            columns[ours] = convert(column, ours, self.types[ours], self.where(ours))
        return pa.table(columns)

    def _check_int96(self, row_groups: list[int]) -> None:
        """Refuse INT96, of old Spark and Impala, outside of the years that nanoseconds reach."""
        name = self.source_names[TIMESTAMP]
        with pyarrow.parquet.ParquetFile(self.path, coerce_int96_timestamp_unit="us") as file:
            times = file.read_row_groups(row_groups, columns=[name])[name]
        try:
            times.cast(pa.timestamp("ns"))
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{self.where(TIMESTAMP)}: holds INT96 times before 1678 or after 2261; save it "
                "as TIMESTAMP_MICROS (spark.sql.parquet.outputTimestampType)"
            ) from error


def read_parquet(detected: DetectedLayout, options: ReadOptions) -> RawTable:
    """Read the known columns of Parquet files.

    Raises:
        DataError: A file is broken, lacks a column that others have, or has another type that
            cannot be united with theirs.
    """
    with detected.files.extracted(detected.ratings) as folder:
        parts = open_parts(folder, detected, options)
        filled = [part for part in parts if part.source_names]
        tables = [part.read() for part in filled]
    columns = {
        ours: unite_values([table[ours] for table in tables]) for ours in filled[0].source_names
    }
    del tables
    unused = {name: None for part in filled for name in part.available}
    used = {name for part in filled for name in part.source_names.values()}
    return RawTable(
        columns,
        [SourceFile(part.name, part.n_rows, format=_describe(part, columns)) for part in parts],
        filled[0].source_names,
        has_types=True,
        unused=[name for name in unused if name not in used],
    )


def open_parts(folder: Path, detected: DetectedLayout, options: ReadOptions) -> list[ParquetPart]:
    """Open the files of a log and settle the columns and types of all; see `unite_types`.

    Files without rows have no part in this, and get no columns, unless all are without.
    """
    parts = [_open_part(folder / name, detected, name) for name in detected.ratings]
    is_empty = not any(part.n_rows for part in parts)
    named = [_select(part, options) if part.n_rows or is_empty else part for part in parts]
    filled = [part for part in named if part.source_names]
    for part in filled:
        if part.source_names.keys() != filled[0].source_names.keys():
            raise DataError(
                f"{part.name}: has the columns {', '.join(part.available)}, but "
                f"{filled[0].name} has {', '.join(filled[0].available)}; all parts of a log need "
                f"the same of {', '.join(COLUMNS)}: add what is missing, or choose with files="
            )
    types = {
        ours: unite_types(ours, _types_by_part(ours, filled)) for ours in filled[0].source_names
    }
    return [replace(part, types=types) for part in named]


def partition_values(name: str) -> dict[str, str | None]:
    """The text of the values in names of folders, such as `user_id=007`; None if missing."""
    folders = [part.partition("=") for part in PurePosixPath(name).parts[:-1] if "=" in part]
    values = {unquote(key): unquote(value) for key, _, value in folders}
    return {key: None if value in _NO_VALUE else value for key, value in values.items()}


def check_partition(
    column: pa.ChunkedArray, name: str, partitions: Mapping[str, str | None], where: str
) -> None:
    """Refuse a column that differs from the value in the name of its folder."""
    if name not in partitions:
        return
    for value in column.unique().to_pylist():
        text = None if value is None else str(value)
        is_number = isinstance(value, float) and value.is_integer()
        if partitions[name] not in (text, str(int(value)) if is_number else text):
            raise DataError(
                f"{where}: holds {value!r} in a folder {name}={partitions[name]}; remove the "
                "column or correct the name of the folder"
            )


def _open_part(path: Path, detected: DetectedLayout, name: str) -> ParquetPart:
    location = detected.files.describe(name)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            metadata, schema = file.metadata, file.schema_arrow
    except READ_ERRORS as error:
        raise DataError(f"{location}: cannot be read as Parquet: {error}") from error
    partitions = partition_values(name)
    if MARK in (metadata.metadata or {}):
        raise DataError(
            f"{location}: holds rows left out of {metadata.metadata[MARK].decode()}; move it away, "
            "or choose the parts with files="
        )
    return ParquetPart(
        path, location, metadata.num_rows, metadata.num_row_groups, schema, partitions
    )


def _select(part: ParquetPart, options: ReadOptions) -> ParquetPart:
    selected = select_columns(part.available, options, part.name)
    return replace(part, source_names={ours: part.available[i] for ours, i in selected.items()})


def _types_by_part(ours: str, parts: Sequence[ParquetPart]) -> dict[str, pa.DataType]:
    """Types of one of our columns by location; partitions are integers if all could be."""
    types = {part.where(ours): part.source_type(ours) for part in parts}
    values = [
        part.partitions[part.source_names[ours]]
        for part in parts
        if types[part.where(ours)] is None
    ]
    is_integer = all(
        value is None or (_INTEGER.fullmatch(value) and -(2**63) <= int(value) < 2**63)
        for value in values
    )
    partition_type = pa.int64() if is_integer else pa.string()
    return {where: partition_type if kind is None else kind for where, kind in types.items()}


def _describe(part: ParquetPart, columns: Mapping[str, pa.ChunkedArray]) -> str:
    """The format, with the columns whose type here is not that of the whole log."""
    changes = [
        f"{name!r} is {kind}, read as {columns[ours].type}"
        for ours, name in part.source_names.items()
        if (kind := part.source_type(ours)) not in (None, columns[ours].type)
    ]
    return "; ".join(["Parquet", *changes])
