"""Readers of DataFrames, Parquet files and delimited text."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any, Final, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset
from numpy.typing import NDArray

from recsys import columns as names
from recsys.data.layouts import (
    READ_ERRORS,
    UNIT_SEPARATOR,
    DetectedLayout,
    FileStore,
    TableFormat,
    narrow_separator,
)
from recsys.data.tables import MalformedLine, RawTable, SourceFile, concat, select_columns
from recsys.errors import DataError

_SMALL_INTEGER_IDS: Final = {
    names.USER_ID: pa.int32(),
    names.ITEM_ID: pa.int32(),
    names.RATING: pa.float32(),
    names.TIMESTAMP: pa.int64(),
}
_INTEGER_IDS: Final = _SMALL_INTEGER_IDS | {names.USER_ID: pa.int64(), names.ITEM_ID: pa.int64()}
_ID: Final = pa.dictionary(pa.int32(), pa.string())
_TEXT_IDS: Final = _INTEGER_IDS | {names.USER_ID: _ID, names.ITEM_ID: _ID}
_ALL_TEXT: Final = _TEXT_IDS | {names.RATING: pa.string(), names.TIMESTAMP: pa.string()}

# There is one dictionary per block, and a few large ones are unified faster than many small ones.
_BLOCK_BYTES: Final = 16 << 20


def read_files(
    files: FileStore, detected: DetectedLayout, columns: Mapping[str, str] | None
) -> RawTable:
    """Read the known columns of the ratings of a data set.

    Args:
        files: The folder or archive.
        detected: Which files to read, and how they are written.
        columns: Names of the known columns in the files, where they differ.

    Raises:
        DataError: A file is broken or empty, is not of this format, or lacks a required column.
    """
    if detected.name == "parquet":
        return read_parquet(files, detected.ratings, columns)
    form = detected.layout.ratings
    return concat([read_delimited(files, name, form, columns) for name in detected.ratings])


def read_frame(frame: pd.DataFrame, columns: Mapping[str, str] | None) -> RawTable:
    """Read the known columns of a DataFrame, which is not modified; see `read_files`."""
    source = "the table"
    available = [str(name) for name in frame.columns]
    selected = select_columns(available, columns, source)
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


def read_parquet(
    files: FileStore, file_names: Sequence[str], columns: Mapping[str, str] | None
) -> RawTable:
    """Read Parquet files, with or without Hive partitions; see `read_files`."""
    source = files.describe(file_names[0] if len(file_names) == 1 else "")
    try:
        dataset = pyarrow.dataset.dataset(
            list(file_names), format="parquet", filesystem=files.filesystem(), partitioning="hive"
        )
        selected = select_columns(dataset.schema.names, columns, source)
        source_names = {name: dataset.schema.names[i] for name, i in selected.items()}
        fields = {name: pyarrow.dataset.field(field) for name, field in source_names.items()}
        table = dataset.to_table(columns=fields)
        sizes = [fragment.count_rows() for fragment in dataset.get_fragments()]
    except READ_ERRORS as error:
        raise DataError(f"{source}: cannot be read as Parquet: {error}") from error
    sources = [SourceFile(files.describe(f), n) for f, n in zip(file_names, sizes, strict=True)]
    return RawTable({name: table[name] for name in selected}, sources, source_names, has_types=True)


def read_delimited(
    files: FileStore, name: str, form: TableFormat, columns: Mapping[str, str] | None
) -> RawTable:
    """Read a text file; see `read_files`."""
    file = _TextFile(files, name, form)
    try:
        header = file.read_header()
        selected = select_columns(header.columns, columns, file.source)
        table, malformed = _parse_with_types(file, header, selected)
        if form.has_header and _may_hide_lines(file, header, table, malformed):
            file.check_quotes()
    except READ_ERRORS as error:
        if "invalid UTF8 data" in str(error) or isinstance(error, UnicodeDecodeError):
            raise DataError(file.describe_invalid_byte()) from error
        if "out of sync with chunker" in str(error):  # an unclosed quotation mark
            file.check_quotes()
        raise DataError(f"{file.source}: cannot be read: {error}") from error
    lines = _LineNumbers(file, header.n_lines, np.array([row.number for row in malformed], int))
    bad_lines = lines.malformed(malformed) if malformed else ()
    source = SourceFile(file.source, len(table), lines, "line", bad_lines)
    source_names = {known: header.columns[i] for known, i in selected.items()}
    return RawTable({known: table[known] for known in selected}, [source], source_names, False)


class _Header(NamedTuple):
    """The beginning of a file."""

    columns: list[str]
    n_lines: int
    """Number of lines before the first row."""


@dataclass(frozen=True)
class _TextFile:
    """A delimited text file, and what can be said about it line by line."""

    files: FileStore
    name: str
    form: TableFormat

    @property
    def source(self) -> str:
        """The location of the file, for messages."""
        return self.files.describe(self.name)

    def open(self) -> IO[bytes]:
        """Open the decompressed content."""
        return self.files.open(self.name)

    def read_header(self) -> _Header:
        """Find the column names and the first row."""
        encoding = "utf-8-sig" if self.form.encoding == "utf-8" else self.form.encoding
        with self.open() as content:
            numbered = enumerate(io.TextIOWrapper(content, encoding, newline=""), start=1)
            filled = ((number, line) for number, line in numbered if line.strip("\r\n"))
            first, second = next(filled, None), next(filled, None)
        if first is None:
            raise DataError(f"{self.source}: the file is empty")
        if self.form.names is not None:
            return _Header(list(self.form.names), 0)
        if second is None:
            raise DataError(f"{self.source}: there are no rows in it, only a header")
        lines = [first[1].rstrip("\r\n"), second[1].rstrip("\r\n")]
        columns, row = csv.reader(lines, delimiter=self.form.separator)
        if len(row) == len(columns) + 1 and not row[-1]:
            columns.append("")  # a separator at the end of each row
        return _Header(columns, first[0])

    def check_quotes(self) -> None:
        """Raise a DataError if a quotation mark is not closed on its line."""
        with self.open() as content:
            for number, line in enumerate(content, start=1):
                if line.count(b'"') % 2:
                    raise DataError(
                        f"{self.source}, line {number}: a quotation mark is not closed on its "
                        "line; close or double it, or remove the line break in quotes"
                    )

    def describe_invalid_byte(self) -> str:
        """An error message that names the first byte that is not of the encoding."""
        encoding, found = self.form.encoding, ""
        with self.open() as content:
            for number, line in enumerate(content, start=1):
                try:
                    line.decode(encoding)
                except UnicodeDecodeError as error:
                    found = f", line {number}: byte {line[error.start]:#04x}"
                    break
        return f"{self.source}{found} is not {encoding} text; save the file in that encoding"


def _parse_with_types(
    file: _TextFile, header: _Header, selected: Mapping[str, int]
) -> tuple[pa.Table, list[pyarrow.csv.InvalidRow]]:
    """Parse with the fastest column types that fit, and return the malformed lines."""
    for types in (_SMALL_INTEGER_IDS, _INTEGER_IDS, _TEXT_IDS):
        try:
            return _parse(file, header, selected, types)
        except (pa.ArrowInvalid, _PaddedIdError):
            continue
    # Some values are not numbers or some lines are malformed: text, line by line, shows which.
    return _parse(file, header, selected, _ALL_TEXT)


class _PaddedIdError(Exception):
    """Parsing ids as integers would lose characters."""


def _parse(
    file: _TextFile, header: _Header, selected: Mapping[str, int], types: Mapping[str, Any]
) -> tuple[pa.Table, list[pyarrow.csv.InvalidRow]]:
    """Parse with some column types; `_ALL_TEXT` parses line by line and skips malformed lines."""
    column_names = [f"#{position}" for position in range(len(header.columns))]
    for known, position in selected.items():
        column_names[position] = known
    malformed: list[pyarrow.csv.InvalidRow] = []

    def on_invalid_row(row: pyarrow.csv.InvalidRow) -> str:
        malformed.append(row)
        return "skip" if types is _ALL_TEXT else "error"

    form = file.form
    with file.open() as stored:
        content, separator = narrow_separator(stored, form.separator)
        has_integer_ids = types[names.USER_ID] is not _ID
        detector = PaddingDetector(content, separator) if has_integer_ids else None
        table = pyarrow.csv.read_csv(
            detector or content,
            pyarrow.csv.ReadOptions(
                use_threads=types is not _ALL_TEXT,  # line numbers need a single thread
                block_size=_BLOCK_BYTES,
                skip_rows=header.n_lines,
                column_names=column_names,
                encoding="utf8" if form.encoding == "utf-8" else form.encoding,
            ),
            pyarrow.csv.ParseOptions(
                delimiter=separator,
                quote_char='"' if form.has_header else False,
                invalid_row_handler=on_invalid_row,
            ),
            pyarrow.csv.ConvertOptions(
                column_types=types,
                include_columns=list(selected),
                null_values=[""],  # "NA" is a valid id
                strings_can_be_null=True,
            ),
        )
    if detector and detector.found:
        raise _PaddedIdError
    return table, malformed


class PaddingDetector(io.RawIOBase):
    """A file wrapper that detects, while it is read, fields that are not canonical integers.

    Such fields, for example `007`, `+7`, `7 ` or `0x7`, would change if they were parsed as
    integers. Any blank or non-ASCII byte counts, wherever it is: a false alarm costs time, a
    missed one loses an id.
    """

    def __init__(self, content: IO[bytes], separator: str) -> None:
        super().__init__()
        self.content, self.separator = content, ord(separator)
        self.found = False
        self._last = b"\n"

    def readable(self) -> bool:
        """Always true."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read and scan."""
        from recsys.data.encoding import contains_padding  # numba is slow to import

        block = self.content.read(size)
        # The first scan covers fields that cross the border between two blocks.
        for part in (self._last + block[:2], block):
            self.found |= bool(contains_padding(np.frombuffer(part, np.uint8), self.separator))
        self._last = (self._last + block[-2:])[-2:]
        return block


def _may_hide_lines(
    file: _TextFile, header: _Header, table: pa.Table, malformed: list[pyarrow.csv.InvalidRow]
) -> bool:
    """Whether an unclosed quotation mark may have swallowed the lines after it."""
    chunks = [chunk for column in table.columns for chunk in column.chunks]
    if any("\n" in row.text for row in malformed) or any(map(_has_line_break, chunks)):
        return True
    if len(table.columns) == len(header.columns):
        return False
    with file.open() as content:  # it may be in a column that was not read
        return any(b'"' in block for block in iter(lambda: content.read(1 << 20), b""))


def _has_line_break(chunk: pa.Array) -> bool:
    text = chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk
    return pa.types.is_string(text.type) and pc.any(pc.match_substring(text, "\n")).as_py() is True


class _LineNumbers:
    """Line numbers of rows. Arrow skips the header and blank lines when it counts."""

    def __init__(self, file: _TextFile, n_header: int, malformed: NDArray[np.int64]) -> None:
        self._file, self._n_header, self._malformed = file, n_header, malformed

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Line numbers, from one, of the rows at some positions."""
        return skip_gaps(self._blank, skip_gaps(self._malformed, positions + self._n_header + 1))

    def malformed(self, rows: list[pyarrow.csv.InvalidRow]) -> list[MalformedLine]:
        """The malformed lines and what is wrong with them."""
        lines = skip_gaps(self._blank, self._malformed).tolist()
        return [
            MalformedLine(
                line,
                row.text.replace(UNIT_SEPARATOR, self._file.form.separator),
                f"has {row.actual_columns} columns instead of {row.expected_columns}",
            )
            for line, row in zip(lines, rows, strict=True)
        ]

    @cached_property
    def _blank(self) -> NDArray[np.int64]:
        """Line numbers of blank lines after the header, found only when a message needs them."""
        with self._file.open() as content:
            blank = [n for n, line in enumerate(content, start=1) if not line.strip(b"\r\n")]
        return np.array([n for n in blank if n > self._n_header], dtype=np.int64)


def skip_gaps(gaps: NDArray[np.int64], ordinals: NDArray[np.int64]) -> NDArray[np.int64]:
    """The k-th positive integers that are not in `gaps`, for each k in `ordinals`.

    Example:
        >>> skip_gaps(np.array([2, 5]), np.array([1, 2, 3, 4])).tolist()
        [1, 3, 4, 6]
    """
    n_before: NDArray[np.int64] = np.searchsorted(gaps - np.arange(len(gaps)), ordinals, "right")
    return ordinals + n_before
