"""The known layouts of ratings, and how files are found and matched to a layout.

To support another layout, add an entry to `LAYOUTS` and, if it has a file suffix of its own, one
to `_LAYOUT_OF_SUFFIX`.
"""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

import pyarrow as pa
import pyarrow.fs

from recsys import columns
from recsys.errors import DataError, requires

READ_ERRORS: Final = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    csv.Error,
    zipfile.BadZipFile,
    pa.ArrowException,
)
"""What decompressing, decoding and parsing a broken file can raise."""

QUARANTINE_SUFFIX: Final = ".quarantine.parquet"
"""Suffix of the files that hold rows left out of others."""

UNIT_SEPARATOR: Final = "\x1f"
"""An ASCII character that occurs in no id and no title; it replaces longer separators."""

_RATING_COLUMNS = (columns.USER_ID, columns.ITEM_ID, columns.RATING, columns.TIMESTAMP)

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
    """Column names in order; None if the first line is a header."""
    encoding: str = "utf-8"
    flags: tuple[str, ...] = ()
    """Trailing columns of zeros and ones whose names, joined by `|`, are the genres."""

    @property
    def has_header(self) -> bool:
        """Whether the first line is a header; only such tables may quote text."""
        return self.names is None


@dataclass(frozen=True)
class Schema:
    """What a layout promises about its ratings."""

    integer_ids: bool = False
    scale: tuple[float, float] | None = None
    """Lowest and highest rating."""


@dataclass(frozen=True)
class Layout:
    """Names and formats of the files of a data set."""

    ratings: TableFormat
    ratings_file: str | None = None
    """File name that identifies the layout; None if any name will do."""
    catalogue: TableFormat = TableFormat()
    catalogue_file: str = "movies.csv"
    schema: Schema = Schema()
    """Applies if the columns have the names that MovieLens uses."""


LAYOUTS: Final[dict[str, Layout]] = {
    "movielens": Layout(TableFormat(), "ratings.csv", schema=Schema(True, (0.5, 5.0))),
    "movielens-dat": Layout(
        TableFormat("::", _RATING_COLUMNS, "latin-1"),
        "ratings.dat",
        TableFormat("::", (columns.ITEM_ID, columns.TITLE, columns.GENRES), "latin-1"),
        "movies.dat",
        Schema(True, (0.5, 5.0)),
    ),
    "movielens-100k": Layout(
        TableFormat("\t", _RATING_COLUMNS, "latin-1"),
        "u.data",
        TableFormat("|", (*_ITEM_COLUMNS_100K, *_GENRES_100K), "latin-1", flags=_GENRES_100K),
        "u.item",
        Schema(True, (1.0, 5.0)),
    ),
    "parquet": Layout(TableFormat()),
    "csv": Layout(TableFormat()),
    "tsv": Layout(TableFormat("\t")),
    "sequences": Layout(TableFormat(" ", (columns.USER_ID, columns.ITEM_ID))),
}
"""Layouts by name. `sequences` has one `user item` pair per line, in chronological order."""

_LAYOUT_OF_SUFFIX: Final = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "sequences",
    ".dat": "movielens-dat",
    ".data": "movielens-100k",
}


@dataclass(frozen=True)
class FileStore:
    """The files of a folder or a zip archive, by names with `/` between folders."""

    path: Path

    def names(self) -> list[str]:
        """Names of all files except hidden ones, sorted."""
        if self.path.is_dir():
            files = [path for path in self.path.rglob("*") if path.is_file()]
            paths = [path.relative_to(self.path) for path in files]
            visible = [path for path in paths if not any(part[0] == "." for part in path.parts)]
            return sorted(path.as_posix() for path in visible)
        try:
            with zipfile.ZipFile(self.path) as archive:
                return sorted(file.filename for file in archive.infolist() if not file.is_dir())
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{self.path}: cannot be read as a zip archive: {error}") from error

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading; `.gz` is decompressed."""
        if self.path.is_dir():
            file: IO[bytes] = (self.path / name).open("rb")
        else:
            file = zipfile.ZipFile(self.path).open(name)  # noqa: SIM115 (the caller closes it)
        return io.BufferedReader(gzip.GzipFile(fileobj=file)) if name.endswith(".gz") else file

    def describe(self, name: str) -> str:
        """The location of a file, for messages."""
        if self.path.is_dir():
            return str(self.path / name)
        return f"{self.path}:{name}" if name else str(self.path)

    def filesystem(self) -> pyarrow.fs.FileSystem:
        """The same files under the same names, as an Arrow file system."""
        if self.path.is_dir():
            return pyarrow.fs.SubTreeFileSystem(str(self.path), pyarrow.fs.LocalFileSystem())
        with requires("train"):
            from fsspec.implementations.zip import ZipFileSystem
        archive = ZipFileSystem(str(self.path))
        return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(archive))


def narrow_separator(content: IO[bytes], separator: str) -> tuple[IO[bytes], str]:
    """Replace a separator of several characters by one of a single byte."""
    if len(separator) == 1:
        return content, separator
    replaced = content.read().replace(separator.encode(), UNIT_SEPARATOR.encode())
    return io.BytesIO(replaced), UNIT_SEPARATOR


def find_files(path: Path) -> tuple[FileStore, str | None]:
    """Open a folder or an archive, or the folder of a single file and the name of that file.

    Raises:
        DataError: There is nothing at the path.
    """
    if path.is_dir():
        return FileStore(path), None
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; name a folder of ratings, a zip archive or a file of ratings"
        )
    return (FileStore(path), None) if path.suffix == ".zip" else (FileStore(path.parent), path.name)


@dataclass(frozen=True)
class DetectedLayout:
    """The layout of some files, and which of them it applies to."""

    name: str
    """A key of `LAYOUTS`."""
    ratings: tuple[str, ...]
    """The file, or the part files, with the ratings."""
    catalogue: str | None
    """The file with the catalogue, if there is one."""

    @property
    def layout(self) -> Layout:
        """The entry of `LAYOUTS`."""
        return LAYOUTS[self.name]


def detect_layout(files: FileStore, file: str | None, name: str | None = None) -> DetectedLayout:
    """Detect the layout of some files, or of a single `file`, by their names.

    Raises:
        DataError: No ratings are recognised, or `name`, the layout given by the user, is unknown.
    """
    if name is not None and name not in LAYOUTS:
        raise DataError(f"no layout {name!r}; the layouts are {', '.join(LAYOUTS)}")
    names = files.names()
    if file is None:
        detected, ratings = _find_ratings(files, names, name)
    else:
        detected, ratings = name or _layout_of(file), (file,)
    folder = PurePosixPath(ratings[0]).parent
    nearby = [
        candidate
        for candidate in names
        if _base_name(candidate) == LAYOUTS[detected].catalogue_file
        and PurePosixPath(candidate).parent in (folder, PurePosixPath())
    ]
    has_catalogue = nearby and nearby[0] not in ratings
    return DetectedLayout(detected, ratings, nearby[0] if has_catalogue else None)


def _find_ratings(
    files: FileStore, names: list[str], layout: str | None
) -> tuple[str, tuple[str, ...]]:
    """Find the layout and the ratings of a folder: a known file name, or part files of one kind."""
    for candidate in [layout] if layout else LAYOUTS:
        known = [name for name in names if _base_name(name) == LAYOUTS[candidate].ratings_file]
        if known:
            return candidate, (min(known, key=len),)
    tables = [name for name in names if _is_table(name)]
    kinds = sorted({_layout_of(name) for name in tables})
    if layout and tables:
        return layout, tuple(name for name in tables if _layout_of(name) == layout) or tuple(tables)
    if len(kinds) == 1:
        return kinds[0], tuple(tables)
    found = f"files of several kinds ({', '.join(kinds)})" if kinds else "no file of ratings"
    raise DataError(
        f"{files.describe('')}: {found} in it; name one file, or the layout, "
        f"one of {', '.join(LAYOUTS)}"
    )


def _layout_of(name: str) -> str:
    """The layout of one file."""
    for layout, known in LAYOUTS.items():
        if _base_name(name) == known.ratings_file:
            return layout
    suffix = PurePosixPath(_base_name(name)).suffix.lower()
    if suffix not in _LAYOUT_OF_SUFFIX:
        raise DataError(
            f"{name}: unknown file type {suffix or '(no suffix)'}; name the layout, "
            f"one of {', '.join(LAYOUTS)}"
        )
    return _LAYOUT_OF_SUFFIX[suffix]


def _is_table(name: str) -> bool:
    base = _base_name(name)
    is_other = (
        base in {layout.catalogue_file for layout in LAYOUTS.values()}
        or base.upper().startswith("README")
        or base.endswith(QUARANTINE_SUFFIX)
    )
    return PurePosixPath(base).suffix.lower() in _LAYOUT_OF_SUFFIX and not is_other


def _base_name(name: str) -> str:
    """The last component of a name, without `.gz`."""
    return PurePosixPath(name).name.removesuffix(".gz")


def default_quarantine_path(path: Path, detected: DetectedLayout) -> Path:
    """The default file for rows left out of the ratings at a path, next to it."""
    path = path.absolute()
    if path.is_dir() and len(detected.ratings) == 1:
        path /= detected.ratings[0]
    stem = path.name if path.is_dir() else _base_name(path.name).rsplit(".", 1)[0]
    return path.with_name(stem + QUARANTINE_SUFFIX)
