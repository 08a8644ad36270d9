"""Ratings from files and tables of any layout."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import pandas as pd

from recsys import columns as names
from recsys.data.files import Files, find_files
from recsys.data.interactions import Interactions, interactions_from_frame
from recsys.data.layouts import LAYOUTS, Format, Found, detect
from recsys.data.tables import read_parquet, read_text
from recsys.data.validate import validate_ratings
from recsys.errors import DataError

_KNOWN = (names.USER_ID, names.ITEM_ID, names.RATING, names.TIMESTAMP)


def read_ratings(
    source: str | Path | pd.DataFrame,
    *,
    columns: Mapping[str, str] | None = None,
    layout: str | None = None,
) -> Interactions:
    """Read who watched what from a folder, a file, an archive or a table.

    Args:
        source: a folder, a file or a zip archive, of text or Parquet, where `.gz` files are
            unpacked as they are read; or a DataFrame. Recognised by their names are MovieLens'
            `ratings.csv`, `ratings.dat` and `u.data`, with the `movies.csv`, `movies.dat` or
            `u.item` beside them; `.csv`, `.tsv` and `.parquet` with a header; `.txt` with one
            `user item` a line; and folders of part files of one kind, partitioned as Hive does
            or not.
        columns: what the source calls a column of ours: `{"user_id": "visitor", …}`. Ours are
            `user_id`, `item_id`, `rating` and `timestamp`; MovieLens' own names are known. The
            last two may be absent: then every row is a watch, and rows are in the order of
            watching.
        layout: one of `recsys.data.layouts.LAYOUTS`, where names do not tell it.

    Raises:
        DataError: the file is not there or its content cannot be used.

    Example:
        >>> log = pd.DataFrame({"visitor": ["ann", "ann", "bob"], "item_id": [7, 3, 7]})
        >>> ratings = read_ratings(log, columns={"user_id": "visitor"})
        >>> ratings.n_users, ratings.n_items, ratings.items.ids[ratings.history(0)].tolist()
        (2, 2, [7, 3])
    """
    ours = _renaming(columns or {})
    if isinstance(source, pd.DataFrame):
        _require(columns or {}, source, "the table")
        return interactions_from_frame(validate_ratings(source.rename(columns=ours), "the table"))
    files, named = find_files(Path(source))
    found = detect(files, named, layout)
    described = files.describe(found.ratings[0]) if len(found.ratings) == 1 else str(source)
    table, name_row = _read_parts(files, found)
    _require(columns or {}, table, described)
    ratings = validate_ratings(table.rename(columns=ours), described, name_row)
    catalogue = None
    if found.catalogue is not None:
        form = LAYOUTS[found.layout].catalogue
        catalogue = _read_catalogue(files, found.catalogue, form, ratings[names.ITEM_ID])
    return interactions_from_frame(ratings, catalogue)


def _renaming(columns: Mapping[str, str]) -> dict[str, str]:
    """Our name of each column by the source's own name."""
    unknown = sorted(set(columns) - set(_KNOWN))
    if unknown:
        raise DataError(
            f"columns names {', '.join(map(repr, unknown))}; it can name {', '.join(_KNOWN)}"
        )
    known = {theirs: name for theirs, name in names.MOVIELENS.items() if name not in columns}
    return known | {theirs: name for name, theirs in columns.items()}


def _require(columns: Mapping[str, str], table: pd.DataFrame, source: str) -> None:
    """Refuse a table that lacks a column that the user named."""
    for name, theirs in columns.items():
        if theirs not in table:
            raise DataError(
                f"{source}: no column {theirs!r}, which is to be {name}, among "
                f"{', '.join(map(repr, map(str, table.columns)))}"
            )


def _read_parts(files: Files, found: Found) -> tuple[pd.DataFrame, Callable[[int], str]]:
    """The ratings as they are written, and what to call the row at a position."""
    described = [files.describe(name) for name in found.ratings]
    if found.layout == "parquet":
        table = read_parquet(files, found.ratings)
        where = described[0] if len(described) == 1 else files.describe("")
        return table, lambda position: f"{where}, row {position}"
    parts = [read_text(files, name, LAYOUTS[found.layout].ratings) for name in found.ratings]
    ends = list(accumulate(map(len, parts)))
    table = pd.concat(parts) if len(parts) > 1 else parts[0]
    lines = table.index

    def name_row(position: int) -> str:
        return f"{described[bisect_right(ends, position)]}, line {lines[position]}"

    return table, name_row


def _read_catalogue(
    files: Files, name: str, form: Format, ids_like: pd.Series[Any]
) -> pd.DataFrame:
    table = read_text(files, name, form).rename(columns=names.MOVIELENS)
    for column in (names.ITEM_ID, names.TITLE):
        if column not in table:
            raise DataError(
                f"{files.describe(name)}: no column {column!r}; name the columns item_id, title"
            )
    if form.flags:
        table = _join_flags(table, form.flags)
    ids: pd.Series[Any] = table[names.ITEM_ID].astype(str)
    if pd.api.types.is_integer_dtype(ids_like):
        ids = pd.to_numeric(ids, errors="coerce")
        bad = table.loc[~(ids % 1 == 0), names.ITEM_ID]
        if len(bad):
            raise DataError(
                f"{files.describe(name)}, line {bad.index[0]}, column {names.ITEM_ID!r}: "
                f"{bad.iloc[0]!r} is not a whole number, but the item ids of the ratings are"
            )
        ids = ids.astype("int64")
    return table.assign(**{names.ITEM_ID: ids}).reset_index(drop=True)


def _join_flags(table: pd.DataFrame, flags: tuple[str, ...]) -> pd.DataFrame:
    """Turn columns of zeros and ones into one column of their names, joined by `|`."""
    ones = table[list(flags)].to_numpy() == "1"
    genres = ["|".join(name for name, one in zip(flags, row, strict=True) if one) for row in ones]
    return table[[names.ITEM_ID, names.TITLE]].assign(**{names.GENRES: genres})
