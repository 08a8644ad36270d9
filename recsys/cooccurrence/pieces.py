"""Ratings in Parquet, in pieces that are read one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset

from recsys import columns as names
from recsys.data.layouts import READ_ERRORS, detect_layout, find_files
from recsys.data.tables import is_text, select_columns
from recsys.errors import DataError


@dataclass(frozen=True)
class Piece:
    """Some rows of the source: a row group of one of its files."""

    fragment: pyarrow.dataset.Fragment
    schema: pa.Schema
    """Of the whole source."""
    called: Mapping[str, str]
    """What the source calls our columns."""

    def read(self) -> pa.Table:
        """The rows, by our names; ids are of 64 bits or text."""
        wanted = {ours: pyarrow.dataset.field(theirs) for ours, theirs in self.called.items()}
        try:
            table = self.fragment.to_table(schema=self.schema, columns=wanted)
        except READ_ERRORS as error:
            raise DataError(f"{self.fragment.path}: cannot be read as Parquet: {error}") from error
        for name in (names.USER_ID, names.ITEM_ID):
            ids = _plain_ids(table[name], self.called[name])
            table = table.set_column(table.schema.get_field_index(name), name, ids)
        return table


def _plain_ids(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Ids of one type, so that an id is the same in every piece."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain_ids(column.cast(kind.value_type), name)
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return column.cast(pa.int64())
    if is_text(kind):
        return column.cast(pa.string())
    raise DataError(
        f"column {name!r} is of type {kind}: on a cluster ids must be integers of up to 64 bits, "
        "or text"
    )


def pieces_of(source: Path, columns: Mapping[str, str] | None) -> tuple[list[Piece], int]:
    """The row groups of a Parquet file, or of a folder of them, and how many rows there are.

    Args:
        source: the file or folder.
        columns: what it calls our columns, where that is not told by their names.

    Raises:
        DataError: there is no Parquet, or it is broken or lacks a column.
    """
    files, named = find_files(source.absolute())
    found = detect_layout(files, named)
    if found.name != "parquet":
        raise DataError(
            f"{source}: on a cluster ratings are read from Parquet, a file or a folder of them; "
            "save them as Parquet first"
        )
    paths = [files.describe(name) for name in found.ratings]
    try:
        dataset = pyarrow.dataset.dataset(paths, format="parquet", partitioning="hive")
        chosen = select_columns(dataset.schema.names, columns, str(source))
        called = {ours: dataset.schema.names[position] for ours, position in chosen.items()}
        pieces = [
            Piece(group, dataset.schema, called)
            for fragment in dataset.get_fragments()
            for group in fragment.split_by_row_group()
        ]
        n_rows = dataset.count_rows()
    except READ_ERRORS as error:
        raise DataError(f"{source}: cannot be read as Parquet: {error}") from error
    if not n_rows:
        raise DataError(f"{source}: there are no rows in it")
    return pieces, n_rows
