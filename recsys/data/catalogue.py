"""Item metadata, read from a file next to the ratings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys import columns as names
from recsys.arguments import shown
from recsys.data.ids import is_text, parse_integers, to_bool
from recsys.errors import DataError
from recsys.vocabulary import Vocabulary

_SHARED_BYTES, _ITEM_BYTES = 2**20, 4096
"""The catalogue may have this size, and this much for each item; that of a bundle, too."""


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
        DataError: The items are integers, but an id in the source is not; or there is too much
            text.
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
    rows = rows.assign(**{names.TITLE: titles.astype(str)})
    catalogue = rows.rename_axis(names.ITEM_ID).reset_index()
    require_catalogue_size(catalogue, "the items" if source is None else source.source)
    return catalogue


def max_catalogue_bytes(n_items: int) -> int:
    """The size that the catalogue of a bundle may have."""
    return _SHARED_BYTES + _ITEM_BYTES * n_items


def catalogue_bytes(table: pa.Table) -> int:
    """The size of a catalogue: the bytes of its text, as UTF-8, and of its other values."""
    return sum(map(_column_bytes, table.itercolumns()))


def _column_bytes(column: pa.ChunkedArray) -> int:
    kind = column.type
    if pa.types.is_dictionary(kind) and _is_binary(kind.value_type):
        lengths = (pc.binary_length(part.dictionary).take(part.indices) for part in column.chunks)
        return sum(pc.sum(length).as_py() or 0 for length in lengths)
    if _is_binary(kind):
        return pc.sum(pc.binary_length(column)).as_py() or 0
    return 0 if pa.types.is_null(kind) else len(column) * kind.bit_width // 8


def _is_binary(kind: pa.DataType) -> bool:
    return is_text(kind) or kind in (pa.binary(), pa.large_binary())


def require_catalogue_size(catalogue: pd.DataFrame, source: str) -> None:
    """Raise a `DataError` if a catalogue is larger than that of a bundle may be."""
    table = pa.Table.from_pandas(catalogue, preserve_index=False)
    size, limit = catalogue_bytes(table), max_catalogue_bytes(len(catalogue))
    if size <= limit:
        return
    largest = max(table.column_names, key=lambda name: _column_bytes(table[name]))
    lengths = [len(str(value).encode()) for value in catalogue[largest]]
    longest = int(np.argmax(lengths))
    item = shown(catalogue[names.ITEM_ID].tolist()[longest])
    raise DataError(
        f"{source}, column {largest!r}: the text of item {item} has {lengths[longest]:,} bytes; "
        f"the columns of {len(catalogue):,} items have {size:,} bytes and may have {limit:,}, "
        f"{_ITEM_BYTES:,} for each item and 1 MiB: shorten the longest texts, or remove the column"
    )


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
