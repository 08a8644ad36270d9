"""The shapes in which ratings are published, and which of them some files have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from recsys import columns
from recsys.data.reading.files import Files, base_name
from recsys.errors import DataError

_RATED = (columns.USER_ID, columns.ITEM_ID, columns.RATING, columns.TIMESTAMP)

# u.item ends with one column of zeros and ones per genre, in this order.
_GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip


@dataclass(frozen=True)
class Format:
    """How one table is written."""

    separator: str = ","
    names: tuple[str, ...] | None = None
    """The columns, in order; None where the file has them in its first line."""
    encoding: str = "utf-8"
    flags: tuple[str, ...] = ()
    """Columns of zeros and ones at the end whose names, joined by `|`, are the genres."""

    @property
    def first_line(self) -> int:
        """The line of the first row, counted from one."""
        return 2 if self.names is None else 1

    @property
    def quoted(self) -> bool:
        """Whether text may stand in quotation marks; only tables with a header do that."""
        return self.names is None


@dataclass(frozen=True)
class Declared:
    """What is promised of the ratings in some files."""

    integer_ids: bool = False
    scale: tuple[float, float] | None = None
    """The lowest and the highest rating."""


@dataclass(frozen=True)
class Layout:
    """Which files hold ratings and catalogue, and how they are written."""

    ratings: Format
    ratings_file: str | None = None
    """The name by which it is known; None where any name will do."""
    catalogue: Format = Format()
    catalogue_file: str = "movies.csv"
    declared: Declared = Declared()
    """What is promised where the columns are called as MovieLens calls them."""


LAYOUTS: dict[str, Layout] = {
    "movielens": Layout(Format(), "ratings.csv", declared=Declared(True, (0.5, 5.0))),
    "movielens-dat": Layout(
        Format("::", _RATED, "latin-1"),
        "ratings.dat",
        Format("::", (columns.ITEM_ID, columns.TITLE, columns.GENRES), "latin-1"),
        "movies.dat",
        Declared(True, (0.5, 5.0)),
    ),
    "movielens-100k": Layout(
        Format("\t", _RATED, "latin-1"),
        "u.data",
        Format(
            "|",
            (columns.ITEM_ID, columns.TITLE, "released", "video_released", "url", *_GENRES_100K),
            "latin-1",
            flags=_GENRES_100K,
        ),
        "u.item",
        Declared(True, (1.0, 5.0)),
    ),
    "parquet": Layout(Format(), None),
    "csv": Layout(Format()),
    "tsv": Layout(Format("\t")),
    "sequences": Layout(Format(" ", (columns.USER_ID, columns.ITEM_ID))),
}
"""Every layout by its name. `sequences` is one `user item` a line, in the order of watching."""

_BY_SUFFIX = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "sequences",
    ".dat": "movielens-dat",
    ".data": "movielens-100k",
}


@dataclass(frozen=True)
class Found:
    """Some files, understood."""

    layout: str
    ratings: tuple[str, ...]
    """The file, or the part files, that hold the ratings."""
    catalogue: str | None
    """The file that holds the catalogue, where there is one."""


def detect(files: Files, named: str | None, layout: str | None = None) -> Found:
    """Understand some files by their names.

    Args:
        files: a folder or an archive.
        named: the one file in it that the user named, if any.
        layout: the layout, where the user says which.

    Raises:
        DataError: no ratings are recognised, or the layout is not one of `LAYOUTS`.
    """
    if layout is not None and layout not in LAYOUTS:
        raise DataError(f"there is no layout {layout!r}; there are {', '.join(LAYOUTS)}")
    names = files.names()
    if named is None:
        chosen, ratings = _ratings_among(files, names, layout)
    else:
        chosen, ratings = layout or _layout_of(named), (named,)
    catalogue = LAYOUTS[chosen].catalogue_file
    beside = PurePosixPath(ratings[0]).parent
    found = [name for name in names if base_name(name) == catalogue]
    near = [name for name in found if PurePosixPath(name).parent in (beside, PurePosixPath())]
    return Found(chosen, ratings, near[0] if near and near[0] not in ratings else None)


def _layout_of(name: str) -> str:
    for layout, known in LAYOUTS.items():
        if base_name(name) == known.ratings_file:
            return layout
    suffix = PurePosixPath(base_name(name)).suffix.lower()
    if suffix not in _BY_SUFFIX:
        raise DataError(
            f"{name}: files of kind {suffix or 'without a suffix'} are not known; name the layout, "
            f"one of {', '.join(LAYOUTS)}"
        )
    return _BY_SUFFIX[suffix]


def _ratings_among(
    files: Files, names: list[str], layout: str | None
) -> tuple[str, tuple[str, ...]]:
    """The layout and the ratings of a folder: a known name, or else parts of one kind."""
    for candidate in [layout] if layout else LAYOUTS:
        known = [name for name in names if base_name(name) == LAYOUTS[candidate].ratings_file]
        if known:
            return candidate, (min(known, key=len),)
    tables = [name for name in names if _is_table(name)]
    kinds = sorted({_layout_of(name) for name in tables})
    if layout and tables:
        return layout, tuple(name for name in tables if _layout_of(name) == layout) or tuple(tables)
    if len(kinds) == 1:
        return kinds[0], tuple(tables)
    what = f"files of several kinds ({', '.join(kinds)})" if kinds else "no file of ratings"
    raise DataError(
        f"{files.describe('')}: there is {what} in it; name one file, or the layout, "
        f"one of {', '.join(LAYOUTS)}"
    )


def _is_table(name: str) -> bool:
    base = base_name(name)
    catalogues = {layout.catalogue_file for layout in LAYOUTS.values()}
    suffix = PurePosixPath(base).suffix.lower()
    others = base in catalogues or base.upper().startswith("README") or base.endswith(REJECTED)
    return suffix in _BY_SUFFIX and not others


REJECTED = ".rejected.parquet"
"""How files end that hold the rows that were left out of others."""


def rejected_beside(path: Path, found: Found) -> Path:
    """The file for the rows left out of what lies at a path.

    Args:
        path: a folder, an archive or a file.
        found: the ratings in it.
    """
    path = path.absolute()
    if path.is_dir() and len(found.ratings) == 1:
        path /= found.ratings[0]
    stem = path.name if path.is_dir() else base_name(path.name).rsplit(".", 1)[0]
    return path.with_name(stem + REJECTED)
