"""Readers of DataFrames, Parquet files and delimited text."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from functools import cached_property, partial
from typing import IO, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.fs
from numpy.typing import NDArray

from recsys import columns as names
from recsys.data.layouts import (
    LAYOUTS,
    READ_ERRORS,
    UNIT_SEPARATOR,
    DetectedLayout,
    narrow_separator,
)
from recsys.data.options import ReadOptions
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
        return _read_parquet(detected, options)
    files = [_TextFile(detected, name) for name in detected.ratings]
    return concat([file.read(options) for file in files])


def read_frame(frame: pd.DataFrame, options: ReadOptions = ReadOptions()) -> RawTable:
    """Read the known columns of a DataFrame, which is not modified; see `read_files`."""
    source = "the table"
    available = [str(name) for name in frame.columns]
    selected = select_columns(available, options, source)
    arrays = {name: pa.chunked_array([_to_arrow(frame.iloc[:, i])]) for name, i in selected.items()}
    source_names = {name: available[i] for name, i in selected.items()}
    return RawTable(arrays, [SourceFile(source, len(frame))], source_names, has_types=True)


def _to_arrow(values: pd.Series[Any]) -> pa.Array:
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        values = values.dt.tz_convert(None)  # timestamps without a time zone are UTC
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowException, OverflowError):  # objects of several types
        is_missing = values.isna()
        array = pa.array(
            [None if gone else str(value) for value, gone in zip(values, is_missing, strict=True)]
        )
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _read_parquet(detected: DetectedLayout, options: ReadOptions) -> RawTable:
    files, file_names = detected.files, detected.ratings
    source = files.describe(file_names[0] if len(file_names) == 1 else "")
    try:
        with files.extracted(file_names) as folder:
            local = pyarrow.fs.SubTreeFileSystem(str(folder), pyarrow.fs.LocalFileSystem())
            dataset = pyarrow.dataset.dataset(
                file_names, format="parquet", filesystem=local, partitioning="hive"
            )
            selected = select_columns(dataset.schema.names, options, source)
            source_names = {name: dataset.schema.names[i] for name, i in selected.items()}
            fields = {name: pyarrow.dataset.field(field) for name, field in source_names.items()}
            table = dataset.to_table(columns=fields)
            sizes = [fragment.count_rows() for fragment in dataset.get_fragments()]
    except READ_ERRORS as error:
        raise DataError(f"{source}: cannot be read as Parquet: {error}") from error
    sources = [SourceFile(files.describe(f), n) for f, n in zip(file_names, sizes, strict=True)]
    return RawTable({name: table[name] for name in selected}, sources, source_names, has_types=True)


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
