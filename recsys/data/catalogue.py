"""Item metadata, read from a file next to the ratings."""

from __future__ import annotations

import csv
import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys import columns as names
from recsys.data.dialect import (
    SAMPLE_BYTES,
    UNIT_SEPARATOR,
    candidate_separators,
    detect_encoding,
    find_header,
    require_encoding,
)
from recsys.data.files import READ_ERRORS, FileStore
from recsys.data.ids import parse_integers, to_bool
from recsys.data.layouts import TableFormat
from recsys.errors import DataError
from recsys.vocabulary import Vocabulary


@dataclass(frozen=True)
class ItemTable:
    """Item metadata as the source writes it."""

    table: pd.DataFrame
    """All columns as text: item_id, title and any others; the index holds line numbers."""
    source: str
    """Name of the file, for messages."""

    def contains(self, ids: pa.Array) -> NDArray[np.bool_]:
        """Which ids, text or integers, are in the table, [n]."""
        known = pa.array(self.table[names.ITEM_ID], pa.string())
        if not pa.types.is_string(ids.type):
            known = parse_integers(known).cast(ids.type)
        return to_bool(pc.is_in(ids, known))


def build_catalogue(items: Vocabulary, source: ItemTable | None) -> pd.DataFrame:
    """Return one row per item in index order; items without a title get their id as title.

    Raises:
        DataError: The items are integers, but an id in the source is not.
    """
    rows = pd.DataFrame(index=pd.Index(items.ids))
    if source is not None:
        table, ids = source.table, source.table[names.ITEM_ID]
        if pd.api.types.is_integer_dtype(items.ids):
            integers = parse_integers(pa.array(ids, pa.string()))
            if integers.null_count:
                invalid = ids[to_bool(integers.is_null())]
                raise DataError(
                    f"{source.source}, line {invalid.index[0]}, column {names.ITEM_ID!r}: "
                    f"{invalid.iloc[0]!r} is not an integer, but the item ids of the ratings are"
                )
            table = table.assign(**{names.ITEM_ID: integers.to_numpy()})
        rows = table.drop_duplicates(names.ITEM_ID).set_index(names.ITEM_ID).reindex(items.ids)
    titles = pd.Series([str(item) for item in items.ids.tolist()], index=rows.index, dtype=object)
    if names.TITLE in rows:
        titles = rows[names.TITLE].fillna(titles)
    return rows.assign(**{names.TITLE: titles.astype(str)}).rename_axis(names.ITEM_ID).reset_index()


def require_same_catalogue(model: pd.DataFrame, data: pd.DataFrame) -> None:
    """Raise a `DataError` if a model and the data have fewer than half of their items in common.

    Half of the smaller catalogue of the two counts, since catalogues grow and are filtered. Items
    are matched by id; with different titles they are different items, but an id is not a title.
    """
    ids, titles = model[names.ITEM_ID].astype(str), model[names.TITLE].str.strip()
    others = data.set_index(names.ITEM_ID)[names.TITLE].reindex(model[names.ITEM_ID]).str.strip()
    other = others.set_axis(model.index)
    n_shared = ((other == titles) | (other.notna() & ((other == ids) | (titles == ids)))).sum()
    if 2 * n_shared < min(len(model), len(data)):
        first, second = (
            f"{len(table):,} items such as {' and '.join(map(repr, table[names.TITLE][:2]))}"
            for table in (model, data)
        )
        raise DataError(
            f"the model is of another catalogue: it knows {first}, the data has {second}, "
            f"{n_shared:,} are in both"
        )


def read_item_table(
    files: FileStore, name: str, form: TableFormat, encoding: str | None = None
) -> ItemTable:
    """Read a table of items, all columns as text and without blank lines.

    It is UTF-8, or else in `encoding` or Latin-1, if its layout may be.

    Raises:
        DataError: The file is broken, is not text of this format, or lacks a column.
    """
    source = files.describe(name)
    try:
        with files.open(name) as content:
            table = _parse(content.read(), form, encoding, source)
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{source}: the file is empty") from error
    except READ_ERRORS as error:
        raise DataError(f"{source}: cannot be read: {error}") from error
    table.index += 2 if form.names is None else 1  # line numbers
    table = table.dropna(how="all")
    known = (names.ITEM_ID, names.TITLE, names.GENRES)
    found = names.match(list(table.columns), known) if form.names is None else {}
    renamed = {table.columns[positions[0]]: name for name, positions in found.items()}
    table = table.rename(columns=renamed)
    for column in (names.ITEM_ID, names.TITLE):
        if column not in table:
            raise DataError(f"{source}: no column {column!r}; name the columns item_id and title")
    if form.flags:
        is_set = table[list(form.flags)].to_numpy() == "1"
        genres = ["|".join(np.array(form.flags)[row]) for row in is_set]
        table = table[[names.ITEM_ID, names.TITLE]].assign(**{names.GENRES: genres})
    return ItemTable(table, source)


def _parse(data: bytes, form: TableFormat, declared: str | None, source: str) -> pd.DataFrame:
    encoding = detect_encoding(io.BytesIO(data), form, None)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        require_encoding(io.BytesIO(data), declared or encoding, source)
        text = data.decode(declared or encoding)
    found = None if form.names else find_header(text[:SAMPLE_BYTES], candidate_separators(form))
    separator = found[0] if found else form.separator
    if len(separator) > 1:  # pandas reads it ten times slower than one of a single byte
        text, separator = text.replace(separator, UNIT_SEPARATOR), UNIT_SEPARATOR
    options: dict[str, Any] = {
        "sep": separator,
        "dtype": str,
        "keep_default_na": False,  # "Null" is a valid title
        "na_values": [""],
        "index_col": False,  # tolerate a separator at the end of each line
        "skip_blank_lines": False,  # they count for line numbers
    }
    if form.names is not None:
        options |= {"names": list(form.names), "header": None, "quoting": csv.QUOTE_NONE}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            table: pd.DataFrame = pd.read_csv(io.StringIO(text), **options)
        except pd.errors.ParserWarning as error:
            raise DataError(
                f"{source}: a line has more columns than the header; put titles with {separator!r} "
                "in quotation marks"
            ) from error
    return table
