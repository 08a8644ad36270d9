"""Reader of delimited text."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import IO, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from recsys import columns as names
from recsys.data.dialect import SAMPLE_BYTES, Dialect, detect_dialect, is_number
from recsys.data.parquet import check_partition, partition_values
from recsys.data.tables import RawTable, select_columns
from recsys.data.text import Scanner, TextFile, UncertainQuotesError
from recsys.errors import DataError

_TYPES: Final = {
    names.USER_ID: (pa.int32(), pa.int64(), pa.string()),
    names.ITEM_ID: (pa.int32(), pa.int64(), pa.string()),
    names.SESSION_ID: (pa.int32(), pa.int64(), pa.string()),
    names.RATING: (pa.float32(), pa.string()),
    names.TIMESTAMP: (pa.int64(), pa.string()),
    names.EVENT: (pa.dictionary(pa.int32(), pa.string()), pa.string()),
}
"""Types of each column, the fastest first."""

_BLOCK_BYTES: Final = 4 << 20

_FIELD_CHARACTERS: Final = 16 << 20
"""The longest field that is read where quotation marks enclose line breaks."""


class DelimitedFile(TextFile):
    """A file of delimited text, with or without a header."""

    def read(self) -> RawTable:
        """Read the known columns.

        Raises:
            DataError: The file is broken or empty, is not of this format, or lacks a column.
        """
        partitions = partition_values(self.name)
        with self.reading():
            self.dialect = self._detect_dialect()
            header = [*self.dialect.names]
            if not isinstance(self.options.columns, tuple):
                header += [key for key in partitions if key not in header]
            selection = select_columns(header, self.options, self.source)
            stored = {k: i for k, i in selection.positions.items() if i < len(self.dialect.names)}
            table = self._parse({i: _TYPES[known] for known, i in stored.items()})
        if self.dialect.has_header and {*stored} <= {*names.IDS}:
            self._refuse_second_header(table, [*stored.values()])
        columns = {}
        for known, name in selection.source_names.items():
            if known in stored:
                columns[known] = table[str(stored[known])]
                check_partition(columns[known], name, partitions, f"{self.source}, column {name!r}")
            else:
                value = pa.scalar(partitions[name], pa.string())
                columns[known] = pa.chunked_array([pa.repeat(value, len(table))])
        return self.to_table(columns, selection, str(self.dialect))

    def read_text(self) -> pa.Table:
        """Read all columns as text, by the names in the file.

        Raises:
            DataError: The file is broken or empty, is not of this format, or has a malformed line.
        """
        with self.reading():
            self.dialect = self._detect_dialect()
            positions = range(len(self.dialect.names))
            table = self._parse(dict.fromkeys(positions, (pa.string(),)))
        if self.malformed:
            line, text, reason = self.malformed[0]
            raise DataError(f"{self.source}, line {line}: {text[:60]!r} {reason}; correct the line")
        columns: dict[str, pa.ChunkedArray] = {}
        for name, column in zip(self.dialect.names, table.columns, strict=True):
            columns.setdefault(name, column)
        return pa.table(columns)

    def scanner(self, content: IO[bytes]) -> Scanner:  # noqa: D102
        form = self.dialect
        return Scanner(content, form.encoding, form.separator, form.delimiter, form.has_quotes)

    def _detect_dialect(self) -> Dialect:
        return detect_dialect(self.sample, self.encoding, self.form, self.options, self.source)

    def _parse(self, types: Mapping[int, Sequence[pa.DataType]]) -> pa.Table:
        """Parse some columns, by position, with the first of their types that fit.

        The result has the positions as names. Lines with another number of columns are skipped.
        """
        remaining = {position: [*kinds] for position, kinds in types.items()}
        integers = [position for position, kinds in types.items() if pa.int64() in kinds]
        sources: list[Callable[[], IO[bytes]]] = [self.open]
        if len(self.sample) == SAMPLE_BYTES and not self.encoding.startswith("utf-16"):
            # The first lines tell most types.
            sources.insert(0, partial(io.BytesIO, self.sample[: self.sample.rfind(b"\n") + 1]))
        try:
            for open_content in sources:
                table, scanner, skipped = self._parse_with_arrow(remaining, open_content)
                if scanner.has_padding and any(len(remaining[i]) > 1 for i in integers):
                    remaining |= {i: [pa.string()] for i in integers}  # which would lose characters
                    table, scanner, skipped = self._parse_with_arrow(remaining, open_content)
        except (UncertainQuotesError, pa.ArrowInvalid):
            return self._parse_with_csv([*types])
        self.find_gaps(len(table), scanner.n_lines, self.dialect.n_skipped, skipped)
        return table

    def _parse_with_arrow(
        self, types: dict[int, list[pa.DataType]], open_content: Callable[[], IO[bytes]]
    ) -> tuple[pa.Table, Scanner, dict[str, tuple[str, str]]]:
        """Parse, and remove types that do not fit; also return what was scanned and skipped."""
        skipped: dict[str, tuple[str, str]] = {}

        def skip(row: pyarrow.csv.InvalidRow) -> str:  # called by any thread
            text = row.text.replace(self.dialect.delimiter, self.dialect.separator)
            skipped[row.text] = text, self._wrong_width(row.actual_columns)
            return "skip"

        try:
            with open_content() as content:
                scanner = self.scanner(content)
                table = pyarrow.csv.read_csv(
                    scanner,
                    pyarrow.csv.ReadOptions(
                        block_size=_BLOCK_BYTES,
                        skip_rows=self.dialect.n_skipped,
                        column_names=[str(i) for i in range(len(self.dialect.names))],
                    ),
                    pyarrow.csv.ParseOptions(
                        delimiter=self.dialect.delimiter,
                        quote_char='"' if self.dialect.has_quotes else False,
                        invalid_row_handler=skip,
                    ),
                    pyarrow.csv.ConvertOptions(
                        column_types={str(i): kinds[0] for i, kinds in types.items()},
                        include_columns=[str(i) for i in types],
                        null_values=[""],  # "NA" is a valid id
                        strings_can_be_null=True,
                    ),
                )
        except pa.ArrowInvalid as error:
            found = re.match("In CSV column #([0-9]+): CSV conversion error", str(error))
            kinds = types[int(found[1])] if found else []
            if len(kinds) < 2:
                raise
            kinds.pop(0)
            return self._parse_with_arrow(types, open_content)
        return table, scanner, skipped

    def _parse_with_csv(self, positions: Sequence[int]) -> pa.Table:
        """Parse line by line, with line breaks in quotation marks.

        Raises:
            DataError: A mark is not closed, is followed by something else, or encloses a line that
                could be a row.
        """
        dialect, gaps = self.dialect, list[int]()
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if dialect.has_quotes else csv.QUOTE_NONE
        reader = csv.reader(
            self._lines(), delimiter=dialect.delimiter, quoting=quoting, strict=True
        )
        columns: dict[str, list[str | None]] = {str(i): [] for i in positions}
        tables, self.malformed, self.gaps, start = [], [], gaps, 1
        usual_limit = csv.field_size_limit(_FIELD_CHARACTERS)
        try:
            for fields in reader:
                is_row = len(fields) == len(dialect.names) and start > dialect.n_skipped
                gaps.extend(range(start + is_row, reader.line_num + 1))
                if reader.line_num > start:
                    self._check_continued(fields, start, positions)
                if is_row:
                    for i in positions:
                        columns[str(i)].append(fields[i] or None)
                    if len(columns[str(positions[0])]) == 1 << 16:
                        tables.append(_take(columns))
                elif fields and start > dialect.n_skipped:
                    text = dialect.separator.join(fields)
                    self.malformed.append((start, text, self._wrong_width(len(fields))))
                start = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{self.source}, line {start}: a quotation mark is not closed, or not at the end "
                f"of its column; close or double it ({error})"
            ) from error
        finally:
            csv.field_size_limit(usual_limit)
        return pa.concat_tables([*tables, _take(columns)])

    def _lines(self) -> Iterator[str]:
        with self.open() as content:
            # Bytes that are no text may be in columns that are not used.
            for line in io.TextIOWrapper(content, self.encoding, "surrogateescape", newline=""):
                yield line.replace(self.dialect.separator, self.dialect.delimiter)

    def _wrong_width(self, n_columns: int) -> str:
        return f"has {n_columns} columns instead of {len(self.dialect.names)}"

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

    def _refuse_second_header(self, table: pa.Table, positions: Sequence[int]) -> None:
        """Raise a DataError if a row repeats the header, where no rating or time gives it away."""
        if all(pa.types.is_string(table[str(i)].type) for i in positions):
            is_name = [pc.equal(table[str(i)], self.dialect.names[i]) for i in positions]
            for line in self.line_numbers(np.flatnonzero(pc.and_(*is_name).fill_null(False))):
                raise DataError(f"{self.source}, line {line}: repeats the header; remove this line")


def _take(columns: Mapping[str, list[str | None]]) -> pa.Table:
    """Move values into a table."""
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    for values in columns.values():
        values.clear()
    return table
