"""Readers of delimited text, and of the files of a data set."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import IO, Final

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
    UNIT_SEPARATOR,
    Dialect,
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
    names.RATING: (pa.float32(), pa.string()),
    names.TIMESTAMP: (pa.int64(), pa.string()),
}
"""Types of each column, the fastest first."""
_ALL_TEXT: Final = {name: types[-1] for name, types in _TYPES.items()}
_PADDED: Final = "parsing ids as integers would lose characters"

_BLOCK_BYTES: Final = 16 << 20


def read_files(detected: DetectedLayout, options: ReadOptions) -> RawTable:
    """Read the known columns of the ratings of a data set.

    Raises:
        DataError: A file is broken or empty, is not of this format, or lacks a required column.
    """
    if detected.name == "parquet":
        return read_parquet(detected, options)
    reader = JsonFile if detected.name == "jsonl" else _TextFile
    return concat([reader(detected, name, options).read() for name in detected.ratings])


class _TextFile:
    """A delimited text file."""

    def __init__(self, detected: DetectedLayout, name: str, options: ReadOptions) -> None:
        self._open = partial(detected.files.open, name)  # gives the decompressed content
        self.source = detected.files.describe(name)
        self.partitions = partition_values(name)
        self.form = LAYOUTS[detected.name].ratings
        self.options = options
        self.encoding = ""
        self.sample = b""
        """The first lines of a file that has many."""
        self.has_gaps = True
        """Whether there may be lines after the header at which no row begins."""
        self.malformed: list[pyarrow.csv.InvalidRow] = []
        self.continued: list[int] | None = None
        """Numbers of the lines that begin within quotation marks, once these are checked."""

    def read(self) -> RawTable:
        try:
            self.dialect = self._detect_dialect()
            header = [*self.dialect.names]
            if not isinstance(self.options.columns, tuple):
                header += [key for key in self.partitions if key not in header]
            selected = select_columns(header, self.options, self.source)
            stored = {k: i for k, i in selected.items() if i < len(self.dialect.names)}
            try:
                table = self._parse_with_types(stored)
            except UncertainQuotesError:
                self.continued = self._check_quotes(stored)
                table = self._parse_with_types(stored)
        except READ_ERRORS as error:
            if any(part in str(error) for part in ("invalid UTF8", "codec can't")):
                with self._open() as content:
                    require_encoding(content, self.encoding, self.source)
            raise DataError(f"{self.source}: cannot be read: {error}") from error
        if self.dialect.ends_with_separator:
            self._require_empty(table["#last"])
        if self.dialect.header_line and set(stored) == {names.USER_ID, names.ITEM_ID}:
            self._refuse_second_header(table, stored)
        lines = skip_gaps(self._gaps, self._malformed_numbers) if self.malformed else ()
        malformed = [
            (
                int(line),
                row.text.replace(UNIT_SEPARATOR, self.dialect.separator),
                f"has {row.actual_columns} columns instead of {row.expected_columns}",
            )
            for line, row in zip(lines, self.malformed, strict=True)
        ]
        source = SourceFile(
            self.source, len(table), self._line_numbers, "line", malformed, str(self.dialect)
        )
        source_names = {known: header[i] for known, i in selected.items()}
        for known, i in stored.items():
            where = f"{self.source}, column {header[i]!r}"
            check_partition(table[known], header[i], self.partitions, where)
        for known in selected.keys() - stored.keys():
            value = pa.scalar(self.partitions[header[selected[known]]], pa.string())
            table = table.append_column(known, pa.repeat(value, len(table)))
        columns = {known: table[known] for known in selected}
        unused = unused_columns(header, selected)
        return RawTable(columns, [source], source_names, has_types=False, unused=unused)

    def _detect_dialect(self) -> Dialect:
        with self._open() as content:
            self.encoding = detect_encoding(content, self.form, self.options.encoding)
        with self._open() as content:
            sample = content.read(SAMPLE_BYTES)
        if len(sample) == SAMPLE_BYTES and not self.encoding.startswith(("utf-16", "utf-32")):
            self.sample = sample[: sample.rfind(b"\n") + 1]
        return detect_dialect(sample, self.encoding, self.form, self.options, self.source)

    def _parse_with_types(self, selected: Mapping[str, int]) -> pa.Table:
        """Parse with the fastest column types that fit."""
        types = {name: kinds[0] for name, kinds in _TYPES.items()}
        if self.sample:  # the first lines tell most types, and other attempts are fewer
            self._fit(selected, types, partial(io.BytesIO, self.sample))
        table = self._fit(selected, types, self._open)
        if table is not None:
            return table
        # Some lines are malformed: text, line by line, shows which.
        return self._parse(selected, _ALL_TEXT, self._open)

    def _fit(
        self, selected: Mapping[str, int], types: dict[str, pa.DataType], open_content: _Open
    ) -> pa.Table | None:
        """Parse, and widen `types` until they fit; None if some lines are malformed."""
        while True:
            try:
                return self._parse(selected, types, open_content)
            except pa.ArrowInvalid as error:
                if not _widen(types, selected, str(error)):
                    return None

    def _parse(
        self, selected: Mapping[str, int], types: Mapping[str, pa.DataType], open_content: _Open
    ) -> pa.Table:
        """Parse with some column types; `_ALL_TEXT` skips malformed lines."""
        column_names = [f"#{position}" for position in range(len(self.dialect.names))]
        for known, position in selected.items():
            column_names[position] = known
        included = list(selected)
        if self.dialect.ends_with_separator:
            column_names[-1] = "#last"
            included.append("#last")
        self.malformed = []

        def on_invalid_row(row: pyarrow.csv.InvalidRow) -> str:
            self.malformed.append(row)
            return "skip" if types is _ALL_TEXT else "error"

        with open_content() as content:
            check_quotes = self.dialect.has_quotes and self.continued is None
            scanner = Scanner(content, self.dialect, check_quotes)
            table = pyarrow.csv.read_csv(
                scanner,
                pyarrow.csv.ReadOptions(
                    use_threads=types is not _ALL_TEXT,  # line numbers need a single thread
                    block_size=_BLOCK_BYTES,
                    skip_rows=self.dialect.header_line,
                    column_names=column_names,
                ),
                pyarrow.csv.ParseOptions(
                    delimiter=scanner.separator,
                    quote_char='"' if self.dialect.has_quotes else False,
                    newlines_in_values=bool(self.continued),
                    invalid_row_handler=on_invalid_row,
                ),
                pyarrow.csv.ConvertOptions(
                    column_types={"#last": pa.string(), **types},
                    include_columns=included,
                    null_values=[""],  # "NA" is a valid id
                    strings_can_be_null=True,
                ),
            )
        if scanner.has_padding and {types[names.USER_ID], types[names.ITEM_ID]} != {pa.string()}:
            raise pa.ArrowInvalid(_PADDED)
        n_lines = scanner.n_line_feeds + scanner.has_open_end
        n_rows = self.dialect.header_line + len(table) + len(self.malformed)
        self.has_gaps = n_lines != n_rows or scanner.has_lone_returns
        return table

    def _check_quotes(self, selected: Mapping[str, int]) -> list[int]:
        """Find the lines that begin within quotation marks.

        Raises:
            DataError: A mark is not closed, is followed by something else, or encloses a line that
                could be a row.
        """
        record: list[str] = []

        def lines() -> Iterator[str]:
            for line in self._lines():
                record.append(line if is_short else line.replace(long, UNIT_SEPARATOR))
                yield record[-1]

        long, is_short = self.dialect.separator, len(self.dialect.separator) == 1
        separator = long if is_short else UNIT_SEPARATOR
        n_columns, used = len(self.dialect.names), list(selected.values())
        reader = csv.reader(lines(), delimiter=separator, strict=True)
        continued: list[int] = []
        start = 1
        try:
            for fields in reader:
                for number, line in enumerate(record[1:], start + 1):
                    continued.append(number)
                    others = line.split(separator)
                    if len(others) == n_columns and _are_alike(others, fields, used):
                        raise DataError(
                            f"{self.source}, line {start}: a quotation mark opens a text that goes "
                            f"on in line {number}, which could be a row of its own; close the mark "
                            "on its line or remove it"
                        )
                start = reader.line_num + 1
                record.clear()
        except csv.Error as error:
            raise DataError(
                f"{self.source}, line {start}: a quotation mark is not closed, or not at the end "
                "of its column; close or double it"
            ) from error
        return continued

    def _require_empty(self, column: pa.ChunkedArray) -> None:
        filled = np.flatnonzero(column.is_valid())
        if len(filled):
            (line,) = self._line_numbers(filled[:1])
            raise DataError(
                f"{self.source}, line {line}: {column[int(filled[0])].as_py()!r} is in a column "
                "without a name; name it in the header"
            )

    def _refuse_second_header(self, table: pa.Table, selected: Mapping[str, int]) -> None:
        """Raise a DataError if a row repeats the header, where no rating or time gives it away."""
        if pa.types.is_string(table[names.USER_ID].type):
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
            yield from io.TextIOWrapper(content, self.dialect.encoding, "replace", newline="")

    def _line_numbers(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Line numbers, from one, of the rows at some positions."""
        first = self.dialect.header_line + 1
        return skip_gaps(self._gaps, skip_gaps(self._malformed_numbers, positions + first))

    @property
    def _malformed_numbers(self) -> NDArray[np.int64]:
        """Numbers of the malformed rows; blank lines and line breaks in quotes do not count."""
        return np.array([row.number for row in self.malformed], dtype=np.int64)

    @cached_property
    def _gaps(self) -> NDArray[np.int64]:
        """Numbers of the lines after the header at which no row begins, in ascending order.

        They are only found when a message needs them.
        """
        if not self.has_gaps:
            return np.empty(0, dtype=np.int64)
        blank = {n for n, line in enumerate(self._lines(), 1) if not line.strip("\r\n")}
        gaps = sorted(blank.union(self.continued or ()))
        return np.array([n for n in gaps if n > self.dialect.header_line], dtype=np.int64)


def _are_alike(fields: Sequence[str], others: Sequence[str], used: Sequence[int]) -> bool:
    """Whether the fields at some positions are numbers wherever those of another row are."""
    return all(
        is_number(fields[i]) or (fields[i] != "" and not (i < len(others) and is_number(others[i])))
        for i in used
    )


def _widen(types: dict[str, pa.DataType], selected: Mapping[str, int], error: str) -> bool:
    """Widen the types that an error of Arrow is about; return whether there are such."""
    if error == _PADDED:
        types.update(dict.fromkeys((names.USER_ID, names.ITEM_ID), pa.string()))
        return True
    found = re.match("In CSV column #([0-9]+): CSV conversion error", error)
    position = int(found[1]) if found else -1
    name = next((name for name, i in selected.items() if i == position), "")
    wider = _TYPES[name][_TYPES[name].index(types[name]) + 1 :] if name else ()
    if wider:
        types[name] = wider[0]
    return bool(wider)
