"""The catalogue: what is known of each item, read beside the ratings."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys import columns as names
from recsys.data.reading.files import BROKEN, Files, open_unpacked
from recsys.data.reading.layouts import Format
from recsys.data.reading.lines import UNIT_SEPARATOR
from recsys.errors import DataError
from recsys.vocabulary import Vocabulary


@dataclass(frozen=True)
class Catalogue:
    """What is known of items, as it is written."""

    table: pd.DataFrame
    """All as text: item_id, title and any others; the index is the line of each row."""
    source: str
    """What to call it in messages."""

    def knows(self, ids: pa.Array) -> NDArray[np.bool_]:
        """Which of some ids, text or integers, are in it, [n]."""
        known = pa.array(self.table[names.ITEM_ID], pa.string())
        among: NDArray[np.bool_] = pc.is_in(ids.cast(pa.string()), known).to_numpy(False)
        return among

    def align(self, items: Vocabulary) -> pd.DataFrame:
        """One row per item, in index order; an item without a title is called by its id.

        Raises:
            DataError: the items are integers, but an id in the catalogue is not: no title would
                be found for it.
        """
        written = self.table[names.ITEM_ID]
        if pd.api.types.is_integer_dtype(items.ids):
            bad = written[~written.fillna("").str.fullmatch("-?[0-9]{1,18}")]
            if len(bad):
                raise DataError(
                    f"{self.source}, line {bad.index[0]}, column {names.ITEM_ID!r}: "
                    f"{bad.iloc[0]!r} is not a whole number, but the item ids of the ratings are"
                )
        theirs = self.table.assign(**{names.ITEM_ID: written.astype(items.ids.dtype)})
        known = theirs.drop_duplicates(names.ITEM_ID).set_index(names.ITEM_ID).reindex(items.ids)
        return _entitle(known, items)


def bare_catalogue(items: Vocabulary) -> pd.DataFrame:
    """A catalogue of items of which nothing is known: each is called by its id."""
    return _entitle(pd.DataFrame(index=pd.Index(items.ids)), items)


def _entitle(known: pd.DataFrame, items: Vocabulary) -> pd.DataFrame:
    by_id = pd.Series([str(item) for item in items.ids.tolist()], index=known.index, dtype=object)
    title = known[names.TITLE].fillna(by_id) if names.TITLE in known else by_id
    return known.assign(**{names.TITLE: title.astype(str)}).rename_axis(names.ITEM_ID).reset_index()


def read_catalogue(files: Files, name: str, form: Format) -> Catalogue:
    """Read a table of items.

    Args:
        files: where it lies.
        name: which file.
        form: how it is written.

    Raises:
        DataError: the file is broken, is not text of this form, or lacks a column.
    """
    source = files.describe(name)
    table = _read_text(files, name, form).rename(columns=names.MOVIELENS)
    for column in (names.ITEM_ID, names.TITLE):
        if column not in table:
            raise DataError(f"{source}: no column {column!r}; name the columns item_id, title")
    return Catalogue(_join_flags(table, form.flags) if form.flags else table, source)


def _read_text(files: Files, name: str, form: Format) -> pd.DataFrame:
    """A table, all of it text, whatever number or gap it looks like; blank lines left out."""
    try:
        with open_unpacked(files, name) as stored:
            table: pd.DataFrame = _parse(stored, form)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{files.describe(name)}: byte {error.object[error.start]:#04x} is not {form.encoding} "
            "text; save the file in that encoding"
        ) from error
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{files.describe(name)}: the file is empty") from error
    except BROKEN as error:
        raise DataError(f"{files.describe(name)}: cannot be read: {error}") from error
    table.index = pd.RangeIndex(form.first_line, form.first_line + len(table))
    return table.dropna(how="all")


def _parse(stored: IO[bytes], form: Format) -> Any:
    separator = form.separator
    if separator == "::":
        # pandas reads a separator of two letters ten times more slowly than one of one.
        replaced = stored.read().replace(b"::", UNIT_SEPARATOR.encode())
        stored, separator = io.BytesIO(replaced), UNIT_SEPARATOR
    options: dict[str, Any] = {
        "sep": separator,
        "encoding": form.encoding,
        "dtype": str,
        "keep_default_na": False,  # a film may be called Null
        "na_values": [""],
        "index_col": False,  # a separator at the end of each line shifts no column
        "skip_blank_lines": False,  # they count as lines
    }
    if form.names is not None:
        # Only tables with a header quote their text.
        options |= {"names": list(form.names), "header": None, "quoting": 3}
    return pd.read_csv(stored, **options)


def _join_flags(table: pd.DataFrame, flags: tuple[str, ...]) -> pd.DataFrame:
    """Turn columns of zeros and ones into one column of their names, joined by `|`."""
    ones = table[list(flags)].to_numpy() == "1"
    genres = ["|".join(name for name, one in zip(flags, row, strict=True) if one) for row in ones]
    return table[[names.ITEM_ID, names.TITLE]].assign(**{names.GENRES: genres})
