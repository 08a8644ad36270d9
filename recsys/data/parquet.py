"""Reader of Parquet files, whose columns and types are settled over all parts of a log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet

from recsys.data.arrow import concat, require_same_columns
from recsys.data.detection import DetectedLayout
from recsys.data.files import READ_ERRORS
from recsys.data.ids import parse_integers
from recsys.data.options import ReadOptions
from recsys.data.quarantine import MARK
from recsys.data.tables import RawTable, SourceFile, select_columns
from recsys.errors import DataError

_NO_VALUE: Final = ("", "__HIVE_DEFAULT_PARTITION__")


@dataclass(frozen=True)
class ParquetPart:
    """A Parquet file, and which of its columns are read."""

    path: Path
    name: str
    """The location, for messages."""
    n_rows: int
    n_row_groups: int
    schema: pa.Schema
    """All columns, and then partitions that are no columns."""
    partitions: Mapping[str, str | None]
    """Text of the values in names of folders such as `user_id=007`."""
    source_names: Mapping[str, str] = field(default_factory=dict)
    """Names of the columns by ours; none for a part without rows."""
    unused: Sequence[str] = ()
    """Names of the columns that are not read."""

    @property
    def types(self) -> dict[str, pa.DataType]:
        """Types of the columns, by our names."""
        return {ours: self.schema.field(name).type for ours, name in self.source_names.items()}

    @property
    def file(self) -> SourceFile:
        """How the file is told."""
        return SourceFile(self.name, self.n_rows, format="Parquet")

    def where(self, ours: str) -> str:
        """The location of one of our columns, for messages."""
        return f"{self.name}, column {self.source_names[ours]!r}"

    def read(self, row_groups: Sequence[int] | None = None) -> dict[str, pa.ChunkedArray]:
        """Read our columns of some row groups, or of all, with the types of the file."""
        try:
            # The nanoseconds of INT96 would not reach beyond the year 2261.
            with pyarrow.parquet.ParquetFile(self.path, coerce_int96_timestamp_unit="us") as file:
                stored = {*file.schema_arrow.names} & {*self.source_names.values()}
                groups = range(self.n_row_groups) if row_groups is None else row_groups
                table = file.read_row_groups([*groups], columns=[*stored])
        except READ_ERRORS as error:
            raise DataError(f"{self.name}: cannot be read as Parquet: {error}") from error
        columns = {}
        for ours, name in self.source_names.items():
            if name in stored:
                columns[ours] = table[name]
                check_partition(table[name], name, self.partitions, self.where(ours))
            else:
                value = _partition_scalar(self.partitions[name])
                columns[ours] = pa.chunked_array([pa.repeat(value, len(table))])
        return columns

    def read_table(self) -> RawTable:
        """Read the file."""
        return RawTable(self.read(), [self.file], self.source_names, True, self.unused)


def read_parquet(detected: DetectedLayout, options: ReadOptions) -> RawTable:
    """Read the known columns of Parquet files.

    Raises:
        DataError: A file is broken, lacks a column that others have, or has another type that
            does not go together with theirs.
    """
    with detected.files.extracted(detected.ratings) as folder:
        parts = open_parts(folder, detected, options)
        tables = [part.read_table() for part in parts if part.source_names]
    empty = [part.file for part in parts if not part.source_names]
    table = concat(tables)
    return replace(table, files=[*table.files, *empty])


def open_parts(folder: Path, detected: DetectedLayout, options: ReadOptions) -> list[ParquetPart]:
    """Open the files of a log, all of which have the same of our columns.

    Files without rows have no part in this, and get no columns, unless all are without.
    """
    parts = [_open_part(folder / name, detected, name) for name in detected.ratings]
    is_empty = not any(part.n_rows for part in parts)
    parts = [_select(part, options) if part.n_rows or is_empty else part for part in parts]
    filled = [part for part in parts if part.source_names]
    for part in filled[1:]:
        require_same_columns(part.name, part.source_names, filled[0].name, filled[0].source_names)
    return parts


def partition_values(name: str) -> dict[str, str | None]:
    """The text of the values in names of folders, such as `user_id=007`; None if missing."""
    folders = [part.partition("=") for part in PurePosixPath(name).parts[:-1] if "=" in part]
    values = {unquote(key): unquote(value) for key, _, value in folders}
    return {key: None if value in _NO_VALUE else value for key, value in values.items()}


def _partition_scalar(text: str | None) -> pa.Scalar:
    integer = parse_integers(pa.array([text], pa.string()))[0]
    return integer if integer.is_valid else pa.scalar(text)


def check_partition(
    column: pa.ChunkedArray, name: str, partitions: Mapping[str, str | None], where: str
) -> None:
    """Refuse a column that differs from the value in the name of its folder."""
    if name not in partitions:
        return
    distinct = column.unique()
    texts = distinct.cast(pa.string()).to_pylist()  # 3 for 3.0
    for value, text in zip(distinct.to_pylist(), texts, strict=True):
        if partitions[name] not in (text, str(value)):
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
    if MARK in (metadata.metadata or {}):
        raise DataError(
            f"{location}: holds rows left out of {metadata.metadata[MARK].decode()}; move it away, "
            "or choose the parts with files="
        )
    partitions = partition_values(name)
    for key, value in partitions.items():
        if key not in schema.names:
            schema = schema.append(pa.field(key, _partition_scalar(value).type))
    return ParquetPart(
        path, location, metadata.num_rows, metadata.num_row_groups, schema, partitions
    )


def _select(part: ParquetPart, options: ReadOptions) -> ParquetPart:
    selected = select_columns(part.schema.names, options, part.name)
    return replace(part, source_names=selected.source_names, unused=selected.unused)
