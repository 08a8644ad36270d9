"""Readers of delimited text, and of the files of a data set."""

from __future__ import annotations

import csv
import io
import re
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import IO, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from recsys import columns as names
from recsys.data.arrow import concat
from recsys.data.detection import DetectedLayout
from recsys.data.dialect import (
    SAMPLE_BYTES,
    NoRowsError,
    detect_dialect,
    detect_encoding,
    is_number,
    require_encoding,
)
from recsys.data.files import READ_ERRORS
from recsys.data.jsonl import JsonFile
from recsys.data.layouts import LAYOUTS
from recsys.data.options import ReadOptions
from recsys.data.parquet import check_partition, partition_values, read_parquet
from recsys.data.scanner import Scanner, UncertainQuotesError
from recsys.data.tables import (
    RawTable,
    SourceFile,
    select_columns,
    skip_gaps,
    unused_columns,
)
from recsys.errors import DataError

_Open = Callable[[], IO[bytes]]

_TYPES: Final = {
    names.USER_ID: (pa.int32(), pa.int64(), pa.string()),
    names.ITEM_ID: (pa.int32(), pa.int64(), pa.string()),
    names.SESSION_ID: (pa.int32(), pa.int64(), pa.string()),
    names.RATING: (pa.float32(), pa.string()),
    names.TIMESTAMP: (pa.int64(), pa.string()),
}
"""Types of each column, the fastest first."""

_BLOCK_BYTES: Final = 4 << 20


def read_files(detected: DetectedLayout, options: ReadOptions) -> RawTable:
    """Read the known columns of the ratings of a data set.

    Raises:
        DataError: A file is broken or empty, is not of this format, or lacks a required column.
    """
    if detected.name == "parquet":
        return read_parquet(detected, options)
    reader = JsonFile if detected.name == "jsonl" else _TextFile
    tables, empty = [], []
    for name in detected.ratings:
        try:
            tables.append(reader(detected, name, options).read())
        except NoRowsError:
            if len(detected.ratings) == 1:
                raise
            empty.append(SourceFile(detected.files.describe(name), 0, format="a header only"))
    if not tables:
        raise DataError(f"{detected.files.path}: there are no rows in its files, only headers")
    table = concat(tables)
    return replace(table, files=[*table.files, *empty])


class _TextFile:
    """A delimited text file."""

    def __init__(self, detected: DetectedLayout, name: str, options: ReadOptions) -> None:
        self._open = partial(detected.files.open, name)  # gives the decompressed content
        self.source = detected.files.describe(name)
        self.partitions = partition_values(name)
        self.form = LAYOUTS[detected.name].ratings
        self.options = options
        self.gaps: NDArray[np.int64] = np.array([], dtype=np.int64)
        """Numbers of the lines after the header that are blank or malformed."""
        self.lines: array[int] | None = None
        """Numbers of the lines at which rows begin, if they were read one by one."""
        self.malformed: list[tuple[int, str, str]] = []

    def read(self) -> RawTable:
        try:
            with self._open() as content:
                encoding = detect_encoding(content, self.form, self.options.encoding)
            with self._open() as content:
                sample = content.read(SAMPLE_BYTES)
            self.dialect = detect_dialect(sample, encoding, self.form, self.options, self.source)
            header = [*self.dialect.names]
            if not isinstance(self.options.columns, tuple):
                header += [key for key in self.partitions if key not in header]
            selected = select_columns(header, self.options, self.source)
            stored = {k: i for k, i in selected.items() if i < len(self.dialect.names)}
            table = self._parse_with_arrow(stored, sample)
            if table is None:
                table = self._parse_lines(stored)
        except READ_ERRORS as error:
            if isinstance(error, UnicodeError) or "invalid UTF8" in str(error):
                with self._open() as content:
                    require_encoding(content, encoding, self.source)
            raise DataError(f"{self.source}: cannot be read: {error}") from error
        if self.dialect.header_line and set(stored) <= set(names.IDS):
            self._refuse_second_header(table, stored)
        columns = {}
        for known, i in selected.items():
            if known in stored:
                columns[known] = table[known]
                where = f"{self.source}, column {header[i]!r}"
                check_partition(table[known], header[i], self.partitions, where)
            else:
                value = pa.scalar(self.partitions[header[i]], pa.string())
                columns[known] = pa.chunked_array([pa.repeat(value, len(table))])
        file = SourceFile(
            self.source, len(table), self._line_numbers, "line", self.malformed, str(self.dialect)
        )
        source_names = {known: header[i] for known, i in selected.items()}
        unused = unused_columns(header, selected)
        return RawTable(columns, [file], source_names, has_types=False, unused=unused)

    def _parse_with_arrow(self, selected: Mapping[str, int], sample: bytes) -> pa.Table | None:
        """Parse with the fastest types that fit; None if it takes more than splitting lines.

        Lines with another number of columns are skipped.
        """
        types = {known: kinds[0] for known, kinds in _TYPES.items()}
        sources: list[_Open] = [self._open]
        if len(sample) == SAMPLE_BYTES and not self.dialect.encoding.startswith("utf-16"):
            # The first lines tell most types.
            sources.insert(0, partial(io.BytesIO, sample[: sample.rfind(b"\n") + 1]))
        for open_content in sources:
            table = None
            while table is None:
                try:
                    table = self._parse_as(selected, types, open_content)
                except UncertainQuotesError:
                    return None
                except pa.ArrowInvalid as error:
                    found = re.match("In CSV column #([0-9]+): CSV conversion error", str(error))
                    position = int(found[1]) if found else -1
                    known = next((name for name, i in selected.items() if i == position), None)
                    if known is None or types[known] == pa.string():
                        return None
                    types[known] = _TYPES[known][_TYPES[known].index(types[known]) + 1]
        return table

    def _parse_as(
        self, selected: Mapping[str, int], types: dict[str, pa.DataType], open_content: _Open
    ) -> pa.Table:
        """Parse with some column types, or with text for ids that would lose characters."""
        column_names = [f"#{position}" for position in range(len(self.dialect.names))]
        for known, position in selected.items():
            column_names[position] = known
        skipped: dict[str, int] = {}

        def skip(row: pyarrow.csv.InvalidRow) -> str:  # called by any thread
            skipped[row.text] = row.actual_columns
            return "skip"

        with open_content() as content:
            scanner = Scanner(content, self.dialect)
            table = pyarrow.csv.read_csv(
                scanner,
                pyarrow.csv.ReadOptions(
                    block_size=_BLOCK_BYTES,
                    skip_rows=self.dialect.header_line,
                    column_names=column_names,
                ),
                pyarrow.csv.ParseOptions(
                    delimiter=self.dialect.delimiter,
                    quote_char='"' if self.dialect.has_quotes else False,
                    invalid_row_handler=skip,
                ),
                pyarrow.csv.ConvertOptions(
                    column_types=types,
                    include_columns=list(selected),
                    null_values=[""],  # "NA" is a valid id
                    strings_can_be_null=True,
                ),
            )
        if scanner.has_padding and {types[name] for name in names.IDS} != {pa.string()}:
            types |= dict.fromkeys(names.IDS, pa.string())
            return self._parse_as(selected, types, open_content)
        if scanner.n_lines != self.dialect.header_line + len(table):
            self._find_gaps(skipped, open_content)
        return table

    def _parse_lines(self, selected: Mapping[str, int]) -> pa.Table:
        """Parse line by line: line breaks in quotation marks, and lines of other widths.

        Raises:
            DataError: A mark is not closed, is followed by something else, or encloses a line that
                could be a row.
        """
        delimiter, n_columns = self.dialect.delimiter, len(self.dialect.names)
        lines = (line.replace(self.dialect.separator, delimiter) for line in self._lines())
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self.dialect.has_quotes else csv.QUOTE_NONE
        reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
        columns: dict[str, list[str | None]] = {known: [] for known in selected}
        tables = []
        self.malformed, self.lines = [], array("q")
        start = 1
        try:
            for fields in reader:
                if reader.line_num > start:
                    self._check_continued(fields, start, list(selected.values()))
                if start <= self.dialect.header_line:
                    pass
                elif len(fields) == n_columns:
                    self.lines.append(start)
                    for known, i in selected.items():
                        columns[known].append(fields[i] or None)
                    if len(self.lines) % (1 << 16) == 0:
                        tables.append(_take(columns))
                elif fields:
                    self._add_malformed(start, self.dialect.separator.join(fields), len(fields))
                start = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{self.source}, line {start}: a quotation mark is not closed, or not at the end "
                f"of its column; close or double it ({error})"
            ) from error
        return pa.concat_tables([*tables, _take(columns)])

    def _check_continued(self, fields: Sequence[str], start: int, used: Sequence[int]) -> None:
        """Refuse a line within quotation marks that could be a row, as those of its own row."""
        is_text = [not is_number(field) for field in fields]
        lines = re.split("\r\n|\r|\n", self.dialect.delimiter.join(fields))
        for number, line in enumerate(lines[1:], start + 1):
            others = line.split(self.dialect.delimiter)
            if len(others) == len(self.dialect.names) and all(
                is_number(others[i]) or (others[i] and all(is_text[i : i + 1])) for i in used
            ):
                raise DataError(
                    f"{self.source}, line {start}: a quotation mark opens a text that goes on in "
                    f"line {number}, which could be a row of its own; close the mark on its line "
                    "or remove it"
                )

    def _refuse_second_header(self, table: pa.Table, selected: Mapping[str, int]) -> None:
        """Raise a DataError if a row repeats the header, where no rating or time gives it away."""
        if pa.types.is_string(table[next(iter(selected))].type):
            is_name = [
                pc.equal(table[known].cast(pa.string()), self.dialect.names[position])
                for known, position in selected.items()
            ]
            repeats = np.flatnonzero(pc.and_(*is_name).fill_null(False))
            if len(repeats):
                (line,) = self._line_numbers(repeats[:1])
                raise DataError(f"{self.source}, line {line}: repeats the header; remove this line")

    def _lines(self) -> Iterator[str]:
        with self._open() as content:
            # Bytes that are no text may be in columns that are not used.
            encoding, errors = self.dialect.encoding, "surrogateescape"
            yield from io.TextIOWrapper(content, encoding, errors, newline="")

    def _line_numbers(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Line numbers, from one, of the rows at some positions."""
        if self.lines is not None:
            return np.array(self.lines, dtype=np.int64)[positions]
        return skip_gaps(self.gaps, positions + self.dialect.header_line + 1)

    def _find_gaps(self, skipped: Mapping[str, int], open_content: _Open) -> None:
        """Number the lines without a row: blank ones, and those with the texts that were skipped.

        Arrow's threads do not know the numbers, and to look at each line takes much longer.
        """
        columns_of = {text.encode(): n_columns for text, n_columns in skipped.items()} | {b"": 0}
        gaps, first = [], 1
        self.malformed = []
        with open_content() as content:
            scanner = Scanner(content, self.dialect)
            while block := scanner.read_lines(1 << 20):
                lines = block.splitlines()
                if not columns_of.keys().isdisjoint(lines):
                    gaps += [(i, line) for i, line in enumerate(lines, first) if line in columns_of]
                first += len(lines)
        gaps = [(i, line) for i, line in gaps if i > self.dialect.header_line]
        self.gaps = np.array([i for i, _ in gaps], dtype=np.int64)
        for i, line in gaps:
            if line:
                text = line.decode().replace(self.dialect.delimiter, self.dialect.separator)
                self._add_malformed(i, text, columns_of[line])

    def _add_malformed(self, number: int, text: str, n_columns: int) -> None:
        reason = f"has {n_columns} columns instead of {len(self.dialect.names)}"
        self.malformed.append((number, text, reason))


def _take(columns: Mapping[str, list[str | None]]) -> pa.Table:
    """Move values into a table."""
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    for values in columns.values():
        values.clear()
    return table
