"""The files of a folder or a zip archive: which can hold data, their order, and their content."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import re
import stat
import tempfile
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

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
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"
)  # fmt: skip


@dataclass(frozen=True)
class FileStore:
    """The files of a folder or a zip archive, by names with `/` between folders."""

    path: Path

    def listing(self) -> list[str]:
        """All paths in natural order; a hidden file or folder stands for what is below it."""
        names = _walk(self.path) if self.path.is_dir() else self._members()
        paths = {re.sub(r"((?:^|/)[._][^/]*)/.*", r"\1", name) for name in names}
        return sorted(paths, key=natural_order)

    def _members(self) -> list[str]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                members = [file for file in archive.infolist() if not file.is_dir()]
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{self.path}: cannot be read as a zip archive: {error}") from error
        for file in members:
            if file.flag_bits & 1 or stat.S_ISLNK(file.external_attr >> 16):
                raise DataError(
                    f"{self.describe(file.filename)}: is encrypted or a link; extract the archive, "
                    "and name the folder"
                )
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
        return str(self.path / name) if self.path.is_dir() else f"{self.path}:{name}"

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
    """All files below a folder. Links are followed, but no folder is entered twice."""
    names, seen, queue = [], set[Path](), deque([folder])
    while queue:
        here = queue.popleft()
        if (real := here.resolve()) in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(here.iterdir())
            folders = [entry for entry in entries if not is_hidden(entry.name) and entry.is_dir()]
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error
        names += [path.relative_to(folder).as_posix() for path in {*entries} - {*folders}]
        links = [path for path in folders if path.is_symlink()]
        queue.extendleft({*folders} - {*links})
        queue.extend(links)  # last, so that what is inside has its own name
    return names


def is_hidden(name: str) -> bool:
    """Whether a path is never data: hidden, in a hidden folder, or rows left out of a source."""
    is_quarantine = name.lower().endswith(QUARANTINE_SUFFIX)
    return is_quarantine or re.search("(?:^|/)[._]", name) is not None


def base_name(name: str) -> str:
    """The last component of a path in lower case, without the suffix of a compression."""
    path = PurePosixPath(name.lower())
    return path.stem if path.suffix in _DECOMPRESSORS else path.name


def number_months(name: str) -> str:
    """Replace abbreviated months by numbers: `2019-Oct` becomes `2019-10`."""
    month = rf"(?<![a-z])(?:{'|'.join(_MONTHS)})(?![a-z])"
    return re.sub(month, lambda m: f"{_MONTHS.index(m[0]) + 1:02}", name.lower())


def natural_order(name: str) -> tuple[list[list[str | int]], str]:
    """Sort key of paths: `log-2` comes before `log-10`, and `2019-Oct` before `2019-Dec`."""
    parts = [re.split("([0-9]+)", part) for part in number_months(name).split("/")]
    return [[int(run) if i % 2 else run for i, run in enumerate(part)] for part in parts], name
