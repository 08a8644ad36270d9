"""Ratings from files and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from recsys import columns
from recsys.data.interactions import Interactions, interactions_from_frame
from recsys.data.validate import validate_ratings
from recsys.errors import DataError

RATINGS_FILE = "ratings.csv"
CATALOGUE_FILE = "movies.csv"


def read_ratings(source: str | Path | pd.DataFrame) -> Interactions:
    """Read who watched what from a folder, a file, or a table.

    Args:
        source: a folder with `ratings.csv` and, where there are titles, `movies.csv`; or such
            a file (`.csv` or `.parquet`; titles are taken from a `movies.csv` beside it); or a
            DataFrame. Columns are named as in MovieLens (`userId`, `movieId`, `rating`,
            `timestamp`) or `user_id`, `item_id`, `rating`, `timestamp`; the last two may be
            absent: then every row is a watch, and rows are in the order of watching.

    Raises:
        DataError: the file is not there or its content cannot be used.

    Example:
        >>> log = pd.DataFrame({"user_id": ["ann", "ann", "bob"], "item_id": [7, 3, 7]})
        >>> ratings = read_ratings(log)
        >>> ratings.n_users, ratings.n_items, ratings.items.ids[ratings.history(0)].tolist()
        (2, 2, [7, 3])
    """
    if isinstance(source, pd.DataFrame):
        return interactions_from_frame(validate_ratings(_rename(source), "the table"))
    path = _ratings_file(Path(source))
    # The line number counts from one, after the header; Parquet has rows, not lines.
    first_line = 2 if path.suffix == ".csv" else 0
    ratings = validate_ratings(_rename(_read_table(path)), str(path), first_line)
    catalogue_path = path.parent / CATALOGUE_FILE
    catalogue = None
    if catalogue_path.is_file():
        catalogue = _read_catalogue(catalogue_path, ids_like=ratings[columns.ITEM_ID])
    return interactions_from_frame(ratings, catalogue)


def _ratings_file(path: Path) -> Path:
    if path.is_dir():
        path = path / RATINGS_FILE
    if not path.is_file():
        raise DataError(
            f"{path}: there is no such file; name a folder with {RATINGS_FILE} in it, "
            "or a .csv or .parquet file"
        )
    return path


def _read_table(path: Path) -> pd.DataFrame:
    """Read a table; ids and titles stay text, whatever number or gap they look like."""
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        ours = (columns.USER_ID, columns.ITEM_ID, columns.TITLE, columns.GENRES)
        theirs = [name for name, our_name in columns.MOVIELENS.items() if our_name in ours]
        return pd.read_csv(
            path,
            dtype=dict.fromkeys([*ours, *theirs], str),
            keep_default_na=False,  # a user may be called NA, a film Null
            na_values=[""],
            index_col=False,  # a comma at the end of each line shifts no column
            encoding="utf-8",
        )
    except (OSError, ValueError) as error:  # pandas and pyarrow raise their own kinds of these
        raise DataError(f"{path}: cannot be read as {path.suffix[1:]}: {error}") from error


def _rename(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename(columns=columns.MOVIELENS)


def _read_catalogue(path: Path, ids_like: pd.Series[Any]) -> pd.DataFrame:
    catalogue = _rename(_read_table(path))
    for name in (columns.ITEM_ID, columns.TITLE):
        if name not in catalogue:
            raise DataError(f"{path}: no column {name!r}; name the columns item_id, title")
    ids: pd.Series[Any] = catalogue[columns.ITEM_ID].astype(str)
    if pd.api.types.is_integer_dtype(ids_like):
        ids = pd.to_numeric(ids, errors="coerce")
        bad = catalogue.loc[~(ids % 1 == 0), columns.ITEM_ID]
        if len(bad):
            raise DataError(
                f"{path}, line {int(bad.index[0]) + 2}, column {columns.ITEM_ID!r}: "
                f"{bad.iloc[0]!r} is not a whole number, but the item ids of the ratings are"
            )
        ids = ids.astype("int64")
    return catalogue.assign(**{columns.ITEM_ID: ids})
