"""A text file: its content as UTF-8, watched while Arrow reads it, and the numbers of its lines."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import IO, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys import columns as names
from recsys.data.dialect import SAMPLE_BYTES, detect_encoding, encoding_named, require_encoding
from recsys.data.files import READ_ERRORS, FileStore
from recsys.data.layouts import UTF8, TableFormat
from recsys.data.options import ReadOptions
from recsys.data.tables import RawTable, Selection, SourceFile
from recsys.errors import DataError

_NO_TEXT: Final = {
    b"\x1f\x8b": "compressed by gzip; name it *.gz",
    b"PK\x03\x04": "a zip archive or an Excel file; name it *.zip, or save its table as CSV",
    b"<": "HTML or XML, perhaps the page of an error; download the file again",
}
"""What other files begin with, and what they are."""


class UncertainQuotesError(Exception):
    """A quotation mark is not closed on its line, or something follows the one that closes it."""


class Scanner(io.RawIOBase):
    """A file wrapper that converts text, and looks for padding and doubtful quotation marks.

    It gives UTF-8 with a single byte between columns. Padding means that fields are not canonical
    integers, for example `007`, `+7`, `7 ` or `0x7`, and would change if they were parsed as
    integers. Any blank or non-ASCII byte counts, wherever it is: a false alarm costs time, a
    missed one loses an id.

    Raises:
        UncertainQuotesError: While reading. It may be a false alarm, never a missed one.
    """

    def __init__(
        self,
        content: IO[bytes],
        encoding: str,
        separator: str = ",",
        delimiter: str = ",",
        has_quotes: bool = False,
    ) -> None:
        super().__init__()
        self._content: IO[bytes] | io.TextIOWrapper = content
        if encoding != UTF8:
            self._content = io.TextIOWrapper(content, encoding, newline="")
        self._separators = separator.encode(), delimiter.encode()
        self._has_quotes = has_quotes
        self.has_padding = False
        self.n_lines = 0

    def readable(self) -> bool:  # noqa: D102
        return True

    def read(self, size: int = -1) -> bytes:  # noqa: D102
        # Whole lines, unless these are huge. A character has up to four bytes.
        size = max(size // 8, 1) if isinstance(self._content, io.TextIOWrapper) else size // 2
        return self.read_lines(size, size)

    def read_lines(self, size: int, limit: int = -1) -> bytes:
        """Read a number of bytes or characters, and at most `limit` more to the end of a line."""
        from recsys.data.encoding import contains_padding  # numba is slow to import

        raw = self._content.read(size) + self._content.readline(limit)  # type: ignore[operator]
        block: bytes = raw.encode() if isinstance(raw, str) else raw
        if self.n_lines == 0:
            block = block.removeprefix(codecs.BOM_UTF8)
        separator, delimiter = self._separators
        if separator != delimiter:
            block = block.replace(separator, delimiter)
        if self._has_quotes and b'"' in block:
            self._require_certain_quotes(block)
        self.n_lines += block.count(b"\n") + (block[-1:] not in (b"\n", b""))
        if b"\r" in block:
            self.n_lines += block.count(b"\r") - block.count(b"\r\n")
        for part in (b"\n" + block[:2], block, block[-2:] + b"\n"):
            padded = contains_padding(np.frombuffer(part, np.uint8), ord(delimiter))
            self.has_padding |= padded
        return block

    def _require_certain_quotes(self, block: bytes) -> None:
        """Check that marks open after and close before a separator, a line end or another mark."""
        text = np.frombuffer(block + b"\n", np.uint8)  # before the first byte is this line end
        marks = np.flatnonzero(text == ord('"'))
        line_ends = np.flatnonzero((text == ord("\n")) | (text == ord("\r")))
        neighbours = text[np.concatenate([marks[::2] - 1, marks[1::2] + 1])]
        is_within = np.searchsorted(marks, line_ends) % 2 == 1
        if is_within.any() or not np.isin(neighbours, [*b'"\r\n', *self._separators[1]]).all():
            raise UncertainQuotesError


class TextFile:
    """A file of text with one row per line, apart from blank and malformed lines.

    Args:
        files: The store of the file.
        name: Its name there.
        form: How files of its layout are written.
        options: What is declared about it.
    """

    has_types = False
    """Whether the format distinguishes text from numbers."""

    def __init__(
        self, files: FileStore, name: str, form: TableFormat, options: ReadOptions = ReadOptions()
    ) -> None:
        self.name, self.form, self.options = name, form, options
        self.source = files.describe(name)
        self.open = partial(files.open, name)  # gives the decompressed content
        self.encoding = ""
        self.sample = b""
        """The beginning of the content."""
        self.gaps: Sequence[int] = ()
        """Numbers of the lines that begin no row."""
        self.malformed: list[tuple[int, str, str]] = []

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Find the encoding, and raise a `DataError` for whatever a broken file raises."""
        try:
            name = self.options.encoding
            declared = None if name is None else encoding_named(name)
            with self.open() as content:
                self.sample = content.read(SAMPLE_BYTES)
                self.encoding = detect_encoding(self.sample, content, self.form.encoding, declared)
            for start, kind in _NO_TEXT.items():
                if self.sample.startswith(start):
                    raise DataError(f"{self.source}: is no text, but {kind}")
            if not self.sample.decode(self.encoding, "ignore").strip():
                raise DataError(f"{self.source}: the file is empty")
            yield
        except READ_ERRORS as error:
            if isinstance(error, UnicodeError) or "UTF8" in str(error):
                with self.open() as content:
                    require_encoding(content, self.encoding, self.source)
            raise DataError(f"{self.source}: cannot be read: {error}") from error

    def scanner(self, content: IO[bytes]) -> Scanner:
        """The stream from which Arrow reads the opened file."""
        return Scanner(content, self.encoding)

    def find_gaps(
        self, n_rows: int, n_lines: int, n_skipped: int, skipped: Mapping[str, tuple[str, str]]
    ) -> None:
        """Number the lines without a row: to the header, blank ones, and those that were skipped.

        Args:
            n_rows: Number of rows.
            n_lines: Number of lines.
            n_skipped: Number of lines before the first row.
            skipped: By the text that Arrow has skipped, the line's text and what is wrong with it.
        """
        found, first = [], 1
        reasons = {text.encode(): reason for text, reason in skipped.items()}
        wanted = {b"", *reasons}
        with self.open() as content:
            scanner = self.scanner(content)
            # Arrow's threads do not number lines, and to look at every line takes much longer.
            while n_lines != n_skipped + n_rows and (block := scanner.read_lines(1 << 20)):
                lines = block.splitlines()
                if not wanted.isdisjoint(lines):
                    found += [(i, line) for i, line in enumerate(lines, first) if line in wanted]
                first += len(lines)
        found = [(i, line) for i, line in found if i > n_skipped]
        self.gaps = [*range(1, n_skipped + 1), *(i for i, _ in found)]
        self.malformed = [(i, *reasons[line]) for i, line in found if line]

    def to_table(
        self, columns: Mapping[str, pa.ChunkedArray], selection: Selection, form: str
    ) -> RawTable:
        """The table of this file, from the values of our columns."""
        n_rows, numbers = len(columns[names.ITEM_ID]), self.line_numbers
        file = SourceFile(self.source, n_rows, numbers, "line", self.malformed, form)
        return RawTable(columns, [file], selection.source_names, self.has_types, selection.unused)

    def line_numbers(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of the lines, from one, at which the rows at some positions begin."""
        gaps = np.array(self.gaps, dtype=np.int64)
        n_before: NDArray[np.int64] = np.searchsorted(
            gaps - np.arange(len(gaps)), positions + 1, "right"
        )
        return positions + 1 + n_before
