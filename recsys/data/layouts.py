"""The known layouts of ratings: the names of their files, and how these are written.

To support another layout, add an entry to `LAYOUTS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from recsys import columns

UTF8: Final = "utf-8-sig"
"""UTF-8 with or without a byte order mark."""

_LATIN1: Final = "windows-1252"  # its superset
RATING_COLUMNS: Final = (columns.USER_ID, columns.ITEM_ID, columns.RATING, columns.TIMESTAMP)

_TAOBAO_COLUMNS = ("user_id", "item_id", "category_id", "event", "timestamp")
_ITEM_COLUMNS_100K = (columns.ITEM_ID, columns.TITLE, "released", "video_released", "url")
# u.item ends with one column of zeros and ones per genre, in this order.
_GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip


@dataclass(frozen=True)
class TableFormat:
    """How one delimited table is written."""

    separator: str = ","
    names: tuple[str, ...] | None = None
    """Column names in order; None if the first line is a header. Only then text may be quoted."""
    encoding: str = UTF8
    """Encoding of text that is not UTF-8."""
    flags: tuple[str, ...] = ()
    """Trailing columns of zeros and ones whose names, joined by `|`, are the genres."""


@dataclass(frozen=True)
class Layout:
    """Names and formats of the files of a data set."""

    ratings: TableFormat
    ratings_file: str | None = None
    """File name that identifies the layout; None if any name will do."""
    catalogue: TableFormat = TableFormat()
    catalogue_files: tuple[str, ...] = ("items.csv", "movies.csv")
    suffix: str = ""
    """Suffix of the ratings files for which the layout is the default."""
    scale: tuple[float, float] | None = None
    """Lowest and highest rating, if they are known."""


LAYOUTS: Final[dict[str, Layout]] = {
    "movielens": Layout(TableFormat(), "ratings.csv", scale=(0.5, 5.0)),
    "movielens-dat": Layout(
        TableFormat("::", RATING_COLUMNS, _LATIN1),
        "ratings.dat",
        TableFormat("::", (columns.ITEM_ID, columns.TITLE, columns.GENRES), _LATIN1),
        ("movies.dat",),
        ".dat",
        scale=(0.5, 5.0),
    ),
    "movielens-100k": Layout(
        TableFormat("\t", RATING_COLUMNS, _LATIN1),
        "u.data",
        TableFormat("|", (*_ITEM_COLUMNS_100K, *_GENRES_100K), _LATIN1, flags=_GENRES_100K),
        ("u.item",),
        ".data",
        scale=(1.0, 5.0),
    ),
    "taobao": Layout(
        TableFormat(names=_TAOBAO_COLUMNS),
        "userbehavior.csv",
    ),
    "parquet": Layout(TableFormat(), suffix=".parquet"),
    "csv": Layout(TableFormat(), suffix=".csv"),
    "tsv": Layout(TableFormat("\t"), suffix=".tsv"),
    "jsonl": Layout(TableFormat(), suffix=".jsonl"),
    "sequences": Layout(TableFormat(" ", (columns.USER_ID, columns.ITEM_ID)), suffix=".txt"),
}
"""Layouts by name. `sequences` has one `user item` pair per line, in chronological order."""

LAYOUT_OF_SUFFIX: Final = {
    **{layout.suffix: name for name, layout in LAYOUTS.items() if layout.suffix},
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".inter": "tsv",  # RecBole's
}
