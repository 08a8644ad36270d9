"""Finding the files of ratings in a folder or an archive, and matching them to a layout."""

from __future__ import annotations

import csv
import gzip
import io
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final, NamedTuple

import pyarrow as pa

from recsys.data.layouts import LAYOUT_OF_SUFFIX, LAYOUTS
from recsys.data.options import ReadOptions
from recsys.errors import DataError

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

    @contextmanager
    def extracted(self, names: Sequence[str]) -> Iterator[Path]:
        """The folder with some files; those of an archive are extracted to a temporary one."""
        if self.path.is_dir():
            yield self.path
            return
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(self.path) as archive:
            archive.extractall(folder, names)
            yield Path(folder)


class DetectedLayout(NamedTuple):
    """The files of a data set and their layout."""

    files: FileStore
    name: str
    """A key of `LAYOUTS`."""
    ratings: list[str]
    """The file, or the part files, with the ratings."""
    catalogue: str | None
    """The file with the catalogue, if there is one."""


def detect_layout(path: Path, options: ReadOptions = ReadOptions()) -> DetectedLayout:
    """Detect the layout of a folder, a zip archive or a single file by file names.

    Raises:
        DataError: No ratings are recognised, or the layout in `options` is unknown.
    """
    if not (path.is_dir() or path.is_file()):
        raise DataError(
            f"{path}: no such file; name a folder of ratings, a zip archive or a file of ratings"
        )
    name = options.layout
    if name is not None and name not in LAYOUTS:
        raise DataError(f"no layout {name!r}; the layouts are {', '.join(LAYOUTS)}")
    is_single = path.is_file() and path.suffix != ".zip"
    files = FileStore(path.parent if is_single else path)
    names = files.names()
    if is_single:
        detected, ratings = name or _layout_of(path.name), [path.name]
    else:
        detected, ratings = _find_ratings(files, names, name)
    folders = PurePosixPath(ratings[0]).parent, PurePosixPath()
    wanted = LAYOUTS[detected].catalogue_file
    nearby = [n for n in names if _base_name(n) == wanted and PurePosixPath(n).parent in folders]
    has_catalogue = nearby and nearby[0] not in ratings
    return DetectedLayout(files, detected, ratings, nearby[0] if has_catalogue else None)


def _find_ratings(files: FileStore, names: list[str], layout: str | None) -> tuple[str, list[str]]:
    """Find the layout and the ratings of a folder: a known file name, or part files of one kind."""
    for candidate in [layout] if layout else LAYOUTS:
        known = [name for name in names if _base_name(name) == LAYOUTS[candidate].ratings_file]
        if known:
            return candidate, [min(known, key=len)]
    tables = [name for name in names if _is_table(_base_name(name))]
    kinds = sorted({_layout_of(name) for name in tables})
    if layout and tables:
        return layout, [name for name in tables if _layout_of(name) == layout] or tables
    if len(kinds) == 1:
        return kinds[0], tables
    found = f"files of several kinds ({', '.join(kinds)})" if kinds else "no file of ratings"
    raise DataError(
        f"{files.describe('')}: {found} in it; name one file, or the layout, "
        f"one of {', '.join(LAYOUTS)}"
    )


def _layout_of(name: str) -> str:
    for layout, known in LAYOUTS.items():
        if _base_name(name) == known.ratings_file:
            return layout
    suffix = PurePosixPath(_base_name(name)).suffix.lower()
    layouts = LAYOUT_OF_SUFFIX | {".json": "jsonl", "": "csv"}  # in a folder, rarely ratings
    if suffix not in layouts:
        raise DataError(
            f"{name}: unknown file type {suffix or '(no suffix)'}; name the layout, "
            f"one of {', '.join(LAYOUTS)}"
        )
    return layouts[suffix]


def _is_table(base_name: str) -> bool:
    catalogues = {layout.catalogue_file for layout in LAYOUTS.values()}
    return (
        PurePosixPath(base_name).suffix.lower() in LAYOUT_OF_SUFFIX
        and base_name not in catalogues
        and not base_name.upper().startswith("README")
        and not base_name.endswith(QUARANTINE_SUFFIX)
    )


def _base_name(name: str) -> str:
    """The last component of a name, without `.gz`."""
    return PurePosixPath(name).name.removesuffix(".gz")
