"""Readers of delimited text, and of the files of a data set."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from functools import cached_property, partial
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from recsys import columns as names
from recsys.data.files import READ_ERRORS, DetectedLayout
from recsys.data.layouts import LAYOUTS, UNIT_SEPARATOR, narrow_separator
from recsys.data.options import ReadOptions
from recsys.data.parquet import read_parquet
from recsys.data.tables import COLUMNS, RawTable, SourceFile, concat, select_columns
from recsys.errors import DataError

_SMALL_INTEGER_IDS: Final = dict(
    zip(COLUMNS, (pa.int32(), pa.int32(), pa.float32(), pa.int64()), strict=True)
)
_INTEGER_IDS: Final = _SMALL_INTEGER_IDS | {names.USER_ID: pa.int64(), names.ITEM_ID: pa.int64()}
_ID: Final = pa.dictionary(pa.int32(), pa.string())
_TEXT_IDS: Final = _INTEGER_IDS | {names.USER_ID: _ID, names.ITEM_ID: _ID}
_ALL_TEXT: Final = _TEXT_IDS | {names.RATING: pa.string(), names.TIMESTAMP: pa.string()}

# There is one dictionary per block, and a few large ones are unified faster than many small ones.
_BLOCK_BYTES: Final = 16 << 20


def read_files(detected: DetectedLayout, options: ReadOptions) -> RawTable:
    """Read the known columns of the ratings of a data set.

    Raises:
        DataError: A file is broken or empty, is not of this format, or lacks a required column.
    """
    if detected.name == "parquet":
        return read_parquet(detected, options)
    files = [_TextFile(detected, name) for name in detected.ratings]
    return concat([file.read(options) for file in files])


class _TextFile:
    """A delimited text file."""

    def __init__(self, detected: DetectedLayout, name: str) -> None:
        self._open = partial(detected.files.open, name)  # gives the decompressed content
        self.source = detected.files.describe(name)
        self.form = LAYOUTS[detected.name].ratings
        self.header: list[str] = []
        self.n_header_lines = 0
        self.malformed: list[pyarrow.csv.InvalidRow] = []
        self.has_quotes = False

    def read(self, options: ReadOptions) -> RawTable:
        try:
            self._read_header()
            selected = select_columns(self.header, options, self.source)
            table = self._parse_with_types(selected)
            if self.has_quotes and self.form.names is None:
                self._check_lines()
        except READ_ERRORS as error:
            # The second is due to an unclosed quotation mark.
            if any(part in str(error) for part in ("invalid UTF8", "out of sync", "codec can't")):
                self._check_lines()
            raise DataError(f"{self.source}: cannot be read: {error}") from error
        lines = skip_gaps(self._blank, self._malformed_numbers) if self.malformed else ()
        malformed = [
            (
                int(line),
                row.text.replace(UNIT_SEPARATOR, self.form.separator),
                f"has {row.actual_columns} columns instead of {row.expected_columns}",
            )
            for line, row in zip(lines, self.malformed, strict=True)
        ]
        source = SourceFile(self.source, len(table), self._line_numbers, "line", malformed)
        source_names = {known: self.header[i] for known, i in selected.items()}
        return RawTable({known: table[known] for known in selected}, [source], source_names, False)

    def _read_header(self) -> None:
        """Find the column names and the first row."""
        encoding = "utf-8-sig" if self.form.encoding == "utf-8" else self.form.encoding
        with self._open() as content:
            numbered = enumerate(io.TextIOWrapper(content, encoding, newline=""), start=1)
            filled = ((number, line) for number, line in numbered if line.strip("\r\n"))
            first, second = next(filled, None), next(filled, None)
        if first is None:
            raise DataError(f"{self.source}: the file is empty")
        if self.form.names is not None:
            self.header = list(self.form.names)
            return
        if second is None:
            raise DataError(f"{self.source}: there are no rows in it, only a header")
        lines = [first[1].rstrip("\r\n"), second[1].rstrip("\r\n")]
        self.header, row = csv.reader(lines, delimiter=self.form.separator)
        self.n_header_lines = first[0]
        if len(row) == len(self.header) + 1 and not row[-1]:
            self.header.append("")  # a separator at the end of each row

    def _parse_with_types(self, selected: Mapping[str, int]) -> pa.Table:
        """Parse with the fastest column types that fit."""
        for types in (_SMALL_INTEGER_IDS, _INTEGER_IDS, _TEXT_IDS):
            try:
                return self._parse(selected, types)
            except pa.ArrowInvalid:
                continue
        # Some values are not numbers or some lines are malformed: text, line by line, shows which.
        return self._parse(selected, _ALL_TEXT)

    def _parse(self, selected: Mapping[str, int], types: Mapping[str, Any]) -> pa.Table:
        """Parse with some column types; `_ALL_TEXT` skips malformed lines."""
        column_names = [f"#{position}" for position in range(len(self.header))]
        for known, position in selected.items():
            column_names[position] = known
        self.malformed = []

        def on_invalid_row(row: pyarrow.csv.InvalidRow) -> str:
            self.malformed.append(row)
            return "skip" if types is _ALL_TEXT else "error"

        form = self.form
        with self._open() as stored:
            content, separator = narrow_separator(stored, form.separator)
            scanner = _Scanner(content, separator)
            table = pyarrow.csv.read_csv(
                scanner,
                pyarrow.csv.ReadOptions(
                    use_threads=types is not _ALL_TEXT,  # line numbers need a single thread
                    block_size=_BLOCK_BYTES,
                    skip_rows=self.n_header_lines,
                    column_names=column_names,
                    encoding="utf8" if form.encoding == "utf-8" else form.encoding,
                ),
                pyarrow.csv.ParseOptions(
                    delimiter=separator,
                    quote_char='"' if form.names is None else False,
                    invalid_row_handler=on_invalid_row,
                ),
                pyarrow.csv.ConvertOptions(
                    column_types=types,
                    include_columns=list(selected),
                    null_values=[""],  # "NA" is a valid id
                    strings_can_be_null=True,
                ),
            )
        if scanner.has_padding and types[names.USER_ID] is not _ID:
            raise pa.ArrowInvalid("parsing ids as integers would lose characters")
        self.has_quotes = scanner.has_quotes
        return table

    def _check_lines(self) -> None:
        """Raise a DataError if a line has bytes of another encoding or an open quotation mark."""
        with self._open() as content:
            for number, line in enumerate(content, start=1):
                try:
                    line.decode(self.form.encoding)
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{self.source}, line {number}: byte {line[error.start]:#04x} is not "
                        f"{self.form.encoding} text; save the file in that encoding"
                    ) from error
                if line.count(b'"') % 2 and self.form.names is None:
                    raise DataError(
                        f"{self.source}, line {number}: a quotation mark is not closed on its "
                        "line; close or double it, or remove the line break in quotes"
                    )

    def _line_numbers(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Line numbers, from one, of the rows at some positions."""
        ordinals = skip_gaps(self._malformed_numbers, positions + self.n_header_lines + 1)
        return skip_gaps(self._blank, ordinals)

    @property
    def _malformed_numbers(self) -> NDArray[np.int64]:
        """Numbers of the malformed lines; Arrow does not count blank lines."""
        return np.array([row.number for row in self.malformed], dtype=np.int64)

    @cached_property
    def _blank(self) -> NDArray[np.int64]:
        """Line numbers of blank lines after the header, found only when a message needs them."""
        with self._open() as content:
            blank = [n for n, line in enumerate(content, start=1) if not line.strip(b"\r\n")]
        return np.array([n for n in blank if n > self.n_header_lines], dtype=np.int64)


class _Scanner(io.RawIOBase):
    """A file wrapper that looks for quotation marks and padding while the file is read.

    Padding means that fields are not canonical integers, for example `007`, `+7`, `7 ` or `0x7`,
    and would change if they were parsed as integers. Any blank or non-ASCII byte counts, wherever
    it is: a false alarm costs time, a missed one loses an id.
    """

    def __init__(self, content: IO[bytes], separator: str) -> None:
        super().__init__()
        self.content, self.separator = content, ord(separator)
        self.has_padding = self.has_quotes = False
        self._last = b"\n"

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        from recsys.data.encoding import contains_padding  # numba is slow to import

        block = self.content.read(size)
        self.has_quotes |= b'"' in block
        # The first scan covers fields that cross the border between two blocks.
        for part in (self._last + block[:2], block):
            self.has_padding |= contains_padding(np.frombuffer(part, np.uint8), self.separator)
        self._last = (self._last + block[-2:])[-2:]
        return block


def skip_gaps(gaps: NDArray[np.int64], ordinals: NDArray[np.int64]) -> NDArray[np.int64]:
    """The k-th positive integers that are not in `gaps`, for each k in `ordinals`."""
    n_before: NDArray[np.int64] = np.searchsorted(gaps - np.arange(len(gaps)), ordinals, "right")
    return ordinals + n_before
