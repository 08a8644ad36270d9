"""Readers of the files of a data set: its ratings and its catalogue."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd

from recsys import columns as names
from recsys.data.arrow import concat
from recsys.data.catalogue import ItemTable
from recsys.data.delimited import DelimitedFile
from recsys.data.detection import DetectedLayout
from recsys.data.dialect import NoRowsError, encoding_named
from recsys.data.files import FileStore
from recsys.data.jsonl import JsonFile
from recsys.data.layouts import LAYOUTS, TableFormat
from recsys.data.options import ReadOptions
from recsys.data.parquet import read_parquet
from recsys.data.report import DataWarning
from recsys.data.tables import RawTable, SourceFile
from recsys.errors import DataError


def read_files(detected: DetectedLayout, options: ReadOptions) -> RawTable:
    """Read the known columns of the ratings of a data set.

    Raises:
        DataError: A file is broken or empty, is not of this format, or lacks a required column.
    """
    if detected.name == "parquet":
        return read_parquet(detected, options)
    kind = JsonFile if detected.name == "jsonl" else DelimitedFile
    form = LAYOUTS[detected.name].ratings
    tables, empty = [], []
    for name in detected.ratings:
        file = kind(detected.files, name, form, options)
        try:
            tables.append(file.read())
        except NoRowsError:
            if len(detected.ratings) == 1:
                raise
            empty.append(SourceFile(file.source, 0, format="a header only"))
    if not tables:
        raise DataError(f"{detected.files.path}: there are no rows in its files, only headers")
    table = concat(tables)
    return replace(table, files=[*table.files, *empty])


def read_item_table(
    files: FileStore, name: str, form: TableFormat, encoding: str | None = None
) -> ItemTable:
    """Read a table of items, all columns as text and without blank lines.

    It is UTF-8, or else in `encoding` or Latin-1, if its layout may be.

    Raises:
        DataError: The file is broken, is not text of this format, or lacks a column.
    """
    if encoding is not None:
        form = replace(form, encoding=encoding_named(encoding))
    file = DelimitedFile(files, name, form)
    table = file.read_text().to_pandas()
    table.index = pd.Index(file.line_numbers(np.arange(len(table))))
    known = (names.ITEM_ID, names.TITLE, names.GENRES)
    found = names.match(list(table.columns), known) if form.names is None else {}
    renamed = {table.columns[positions[0]]: name for name, positions in found.items()}
    table = table.rename(columns=renamed)
    for column in (names.ITEM_ID, names.TITLE):
        if column not in table:
            among = ", ".join(map(repr, file.dialect.names))
            raise DataError(
                f"{file.source}: no column {column!r} among {among}; name the columns item_id and "
                "title"
            )
    repeated = table.drop_duplicates([names.ITEM_ID, names.TITLE]).duplicated(names.ITEM_ID)
    for line in repeated.index[repeated][:1]:
        item = table.loc[line, names.ITEM_ID]
        message = f"{repeated.sum():,} items have several titles, of which the first is used"
        warnings.warn(
            f"{file.source}, line {line}: {item!r} has another title than before; {message}",
            DataWarning,
            stacklevel=4,
        )
    if form.flags:
        is_set = table[list(form.flags)].to_numpy() == "1"
        genres = ["|".join(np.array(form.flags)[row]) for row in is_set]
        table = table[[names.ITEM_ID, names.TITLE]].assign(**{names.GENRES: genres})
    return ItemTable(table, file.source)
