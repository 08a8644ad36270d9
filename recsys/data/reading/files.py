"""Where ratings lie: a folder, one file, or a zip archive, plain or gzipped."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

import pyarrow as pa
import pyarrow.fs
from fsspec.implementations.zip import ZipFileSystem

from recsys.errors import DataError

BROKEN = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    csv.Error,
    zipfile.BadZipFile,
    pa.ArrowException,
)
"""What a broken file can raise while it is unpacked, decoded and split."""


class Files(Protocol):
    """Files by name, wherever they lie. Names have `/` between folders."""

    def names(self) -> list[str]:
        """All files, sorted."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """The content of a file as it is stored."""
        ...

    def describe(self, name: str) -> str:
        """What to call a file in a message."""
        ...

    def filesystem(self) -> pyarrow.fs.FileSystem:
        """The same files under the same names, as Arrow reads them."""
        ...


@dataclass(frozen=True)
class Folder:
    """The files below a folder."""

    path: Path

    def names(self) -> list[str]:
        """All files, sorted; hidden ones are left out."""
        found = [path.relative_to(self.path) for path in self.path.rglob("*") if path.is_file()]
        shown = [path for path in found if not any(part.startswith(".") for part in path.parts)]
        return sorted(path.as_posix() for path in shown)

    def open(self, name: str) -> IO[bytes]:
        """The content of a file as it is stored."""
        return (self.path / name).open("rb")

    def describe(self, name: str) -> str:
        """The path of a file."""
        return str(self.path / name)

    def filesystem(self) -> pyarrow.fs.FileSystem:
        """The same files under the same names, as Arrow reads them."""
        return pyarrow.fs.SubTreeFileSystem(str(self.path), pyarrow.fs.LocalFileSystem())


@dataclass(frozen=True)
class ZipArchive:
    """The files in a zip archive, read in place."""

    path: Path

    def names(self) -> list[str]:
        """All files, sorted."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                return sorted(file.filename for file in archive.infolist() if not file.is_dir())
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{self.path}: cannot be read as a zip archive: {error}") from error

    def open(self, name: str) -> IO[bytes]:
        """The content of a file, unpacked as it is read."""
        return zipfile.ZipFile(self.path).open(name)

    def describe(self, name: str) -> str:
        """The path of the archive and the name in it."""
        return f"{self.path}:{name}" if name else str(self.path)

    def filesystem(self) -> pyarrow.fs.FileSystem:
        """The same files under the same names, as Arrow reads them."""
        archive = ZipFileSystem(str(self.path))
        return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(archive))


def find_files(path: Path) -> tuple[Files, str | None]:
    """The files that a path leads to, and the name of the one that it names, if it is a file.

    Raises:
        DataError: there is nothing at the path.
    """
    if path.is_dir():
        return Folder(path), None
    if not path.is_file():
        raise DataError(
            f"{path}: there is no such file; name a folder with ratings in it, a zip archive, "
            "or a file of ratings"
        )
    if path.suffix == ".zip":
        return ZipArchive(path), None
    return Folder(path.parent), path.name


def base_name(name: str) -> str:
    """The last part of a name, without a final `.gz`."""
    return PurePosixPath(name).name.removesuffix(".gz")


def open_unpacked(files: Files, name: str) -> IO[bytes]:
    """The content of a file; a gzipped one is unpacked as it is read."""
    stored = files.open(name)
    if not name.endswith(".gz"):
        return stored
    return io.BufferedReader(gzip.GzipFile(fileobj=stored, mode="rb"))
