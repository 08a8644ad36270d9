"""The files of a folder or a zip archive: which can hold data, their order, and their content."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import os
import re
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, NamedTuple

import pyarrow as pa

from recsys.errors import DataError

READ_ERRORS: Final = (
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    zlib.error,
    lzma.LZMAError,
    csv.Error,
    zipfile.BadZipFile,
    pa.ArrowException,
)
"""What decompressing, decoding and parsing a broken file can raise."""

QUARANTINE_SUFFIX: Final = ".quarantine.parquet"
"""Suffix of the files that hold rows left out of others."""

_DECOMPRESSORS: Final[dict[str, Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": lambda file: pa.CompressedInputStream(file, "zstd"),
}

_MONTHS: Final = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
_MONTH: Final = re.compile(
    rf"(?<![a-z])(?:{'|'.join(f'{name[:3]}(?:{name[3:]})?' for name in _MONTHS)})(?![a-z])"
)


class Listing(NamedTuple):
    """The paths in a folder or archive, with `/` between folders, in natural order."""

    files: list[str]
    """The files that can hold data."""
    hidden: list[str]
    """The hidden files and folders, whose content is never data."""


@dataclass(frozen=True)
class FileStore:
    """The files of a folder or a zip archive, by names with `/` between folders."""

    path: Path

    def listing(self) -> Listing:
        """List everything except what is hidden and quarantined rows."""
        names = _walk(self.path) if self.path.is_dir() else self._members()
        visible = {name for name in names if not _hidden_part(name)}
        files = [name for name in visible if not name.lower().endswith(QUARANTINE_SUFFIX)]
        hidden = {part for part in map(_hidden_part, names) if part}
        return Listing(sorted(files, key=natural_order), sorted(hidden))

    def _members(self) -> list[str]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                members = [file for file in archive.infolist() if not file.is_dir()]
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{self.path}: cannot be read as a zip archive: {error}") from error
        for file in members:
            if file.flag_bits & 1:
                kind = "encrypted; extract the archive with its password, and name the folder"
            elif stat.S_ISLNK(file.external_attr >> 16):
                kind = "a link; extract the archive, and name the folder"
            else:
                continue
            raise DataError(f"{self.describe(file.filename)}: is {kind}")
        return [file.filename for file in members]

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading, decompressed."""
        if self.path.is_dir():
            file: IO[bytes] = (self.path / name).open("rb")
        else:
            file = zipfile.ZipFile(self.path).open(name)  # noqa: SIM115 (the caller closes it)
        decompress = _DECOMPRESSORS.get(PurePosixPath(name).suffix.lower())
        return io.BufferedReader(decompress(file)) if decompress else file

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


def _walk(folder: Path) -> list[str]:
    """All files below a folder. Links are followed, but nothing is entered twice."""

    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error

    names, seen, top = [], set[str](), Path(os.path.realpath(folder))
    for root, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        here = Path(root)
        real = Path(os.path.realpath(here))
        inside = real.relative_to(top).as_posix() if real.is_relative_to(top) else "."
        is_visited_itself = here.is_symlink() and here != folder and not _hidden_part(inside)
        if str(real) in seen or (is_visited_itself and real.is_relative_to(top)):
            folders.clear()
            continue
        seen.add(str(real))
        parent = here.relative_to(folder)
        hidden = [name for name in folders if _hidden_part(name)]
        names += [(parent / name).as_posix() for name in [*files, *hidden]]
        folders[:] = [name for name in folders if name not in hidden]
    return names


def _hidden_part(name: str) -> str:
    """A path up to its first hidden part; empty if nothing in it is hidden."""
    match = re.search(r"(?:^|/)[._][^/]*", name)
    return name[: match.end()] if match and name != "." else ""


def base_name(name: str) -> str:
    """The last component of a path in lower case, without the suffix of a compression."""
    path = PurePosixPath(name.lower())
    return path.stem if path.suffix in _DECOMPRESSORS else path.name


def number_months(name: str) -> str:
    """Replace names of months by numbers: `2019-Oct` becomes `2019-10`."""
    abbreviations = [month[:3] for month in _MONTHS]
    return _MONTH.sub(lambda m: f"{abbreviations.index(m[0][:3]) + 1:02}", name.lower())


def natural_order(name: str) -> tuple[list[list[str | int]], str]:
    """Sort key of paths: `log-2` comes before `log-10`, and `2019-Oct` before `2019-Dec`."""
    parts = [re.split("([0-9]+)", part) for part in number_months(name).split("/")]
    return [[int(run) if i % 2 else run for i, run in enumerate(part)] for part in parts], name
