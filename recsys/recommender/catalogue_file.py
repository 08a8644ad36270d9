"""The catalogue of a bundle, `items.parquet`: what it may hold, and how it is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recsys import columns
from recsys.arguments import shown
from recsys.data.catalogue import catalogue_bytes, max_catalogue_bytes
from recsys.data.ids import is_text
from recsys.errors import BundleError

_OVERHEAD = 2
"""A Parquet file may declare this many times the size of its values: pages repeat some."""


_EXPECTED = {
    columns.ITEM_ID: "ids must be 64-bit integers or text",
    columns.TITLE: "titles must be text",
    columns.GENRES: "genres must be text or missing",
}


def read_catalogue(path: Path, n_items: int) -> pd.DataFrame:
    """Read the catalogue, if it has this many rows and its size is plausible.

    Raises:
        BundleError: It has another number of items, is too large, or has values of other types.
    """
    metadata = pq.read_metadata(path)
    limit = max_catalogue_bytes(n_items)
    declared = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
    leaves = [metadata.schema.column(n) for n in range(metadata.num_columns)]
    is_flat = all(
        leaf.max_repetition_level == 0 and leaf.length <= 1024 and leaf.path == leaf.name
        for leaf in leaves
    )
    if metadata.num_rows != n_items or declared > _OVERHEAD * limit or not is_flat:
        raise BundleError(
            f"{path} declares {metadata.num_rows:,} items of {declared:,} bytes; expected "
            f"{n_items:,} items in columns without lists and structs, and at most {limit:,} bytes"
        )
    # A value that occurs often is stored once: the sizes are known before text is repeated.
    text = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    table = pq.read_table(path, read_dictionary=text)
    if (size := catalogue_bytes(table)) > limit:
        raise BundleError(f"{path} has {size:,} bytes of text; expected at most {limit:,}")
    for name, column in zip(table.column_names, table.itercolumns(), strict=True):
        if not _is_expected(name, column.type):  # pandas would turn NaN into text, as declared
            raise BundleError(f"{path}, column {name!r}: {_EXPECTED[name]}, not {column.type}")
        try:
            column.validate(full=True)  # whether text is UTF-8
        except pa.ArrowInvalid as error:
            raise BundleError(f"{path}, column {name!r}: {error}") from error
    catalogue = pd.read_parquet(path)
    if fault := catalogue_fault(catalogue):
        raise BundleError(f"{path}{fault}")
    return catalogue


def catalogue_fault(catalogue: pd.DataFrame) -> str:
    """What is wrong with the columns of a catalogue; empty if nothing is."""
    if not {columns.ITEM_ID, columns.TITLE} <= set(catalogue):
        return f" has no column {columns.ITEM_ID!r} or {columns.TITLE!r}"
    if not catalogue.columns.is_unique:
        return " has several columns of one name"
    for name, expected in _EXPECTED.items():
        if name not in catalogue or (name == columns.ITEM_ID and catalogue[name].dtype == np.int64):
            continue
        values = catalogue[name].to_numpy(dtype=object)
        is_valid = np.fromiter((isinstance(value, str) for value in values), np.bool_, len(values))
        if name == columns.GENRES:
            is_valid |= pd.isna(values)
        if not is_valid.all():
            row = int(is_valid.argmin())
            return f", column {name!r}, row {row}: {expected}, not {shown(values[row])}"
        kind = pa.Schema.from_pandas(catalogue[[name]]).field(0).type
        if not _is_expected(name, kind):  # genres that are all missing, as floats
            return f", column {name!r}: {expected}, not {kind}"
    return ""


def _is_expected(name: str, kind: pa.DataType) -> bool:
    """Whether the values of a column may have this type."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    others = {columns.ITEM_ID: [pa.int64()], columns.TITLE: [], columns.GENRES: [pa.null()]}
    return name not in others or is_text(kind) or kind in others[name]
