"""Item metadata, read from a file next to the ratings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys import columns as names
from recsys.data.ids import parse_integers, to_bool
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
