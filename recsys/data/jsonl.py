"""Reader of JSON Lines: text with one JSON object per line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.json
from numpy.typing import NDArray

from recsys import columns as names
from recsys.data.detection import DetectedLayout
from recsys.data.dialect import SAMPLE_BYTES, detect_encoding, require_encoding
from recsys.data.files import READ_ERRORS
from recsys.data.layouts import LAYOUTS
from recsys.data.options import ReadOptions
from recsys.data.tables import RawTable, SourceFile, select_columns, skip_gaps, unused_columns
from recsys.errors import DataError

_IDS: Final = (names.USER_ID, names.ITEM_ID)


class JsonFile:
    """A file of JSON Lines."""

    def __init__(self, detected: DetectedLayout, name: str, options: ReadOptions) -> None:
        self._open = partial(detected.files.open, name)  # gives the decompressed content
        self.source = detected.files.describe(name)
        self.form = LAYOUTS[detected.name].ratings
        self.options = options
        self.names: list[str] = []
        """Names of all fields, in the order of their first use."""
        self.malformed: list[tuple[int, str, str]] = []
        self.line_numbers: list[int] = []
        """Numbers of the lines of the rows, if they are known."""

    def read(self) -> RawTable:
        """Read the known fields: with Arrow if all values fit its types, else line by line."""
        encoding = ""
        try:
            with self._open() as content:
                encoding = detect_encoding(content, self.form, self.options.encoding)
            self._lines = partial(self._open_lines, encoding)
            columns = self._parse_with_arrow()
            if columns is None:
                columns = self._parse_lines()
        except READ_ERRORS as error:
            if isinstance(error, UnicodeDecodeError):
                with self._open() as content:
                    require_encoding(content, encoding, self.source)
            raise DataError(f"{self.source}: cannot be read: {error}") from error
        selected = select_columns(self.names, self.options, self.source)
        source_names = {known: self.names[i] for known, i in selected.items()}
        n_rows = len(columns[names.USER_ID])
        lines_of = self._line_numbers
        file = SourceFile(self.source, n_rows, lines_of, "line", self.malformed, "JSON Lines")
        unused = unused_columns(self.names, selected)
        return RawTable(columns, [file], source_names, has_types=True, unused=unused)

    def _open_lines(self, encoding: str) -> Iterator[str]:
        with self._open() as content:
            yield from io.TextIOWrapper(content, encoding, newline="\n")

    def _parse_with_arrow(self) -> dict[str, pa.ChunkedArray] | None:
        """Parse a file whose fields have one type each; None if it may not be such a file."""
        sample: list[dict[str, Any]] = []
        size = 0
        for line in self._lines():
            size += len(line)
            if size > SAMPLE_BYTES:
                break
            if not line.strip():
                continue
            record = _parse(line)
            if record is None:
                return None
            sample.append(record)
        self.names = list(dict.fromkeys(name for record in sample for name in record))
        if not sample:
            return None
        source_names = self._source_names()
        types = {}
        for known, name in source_names.items():
            kinds = {type(record.get(name)) for record in sample} - {type(None)}
            is_rating = known == names.RATING and kinds <= {int, float}
            types[name] = pa.float64() if is_rating else _ARROW_TYPES.get(frozenset(kinds))
        if None in types.values():
            return None
        try:
            with self._open() as content:
                table = pyarrow.json.read_json(
                    content,
                    pyarrow.json.ReadOptions(block_size=16 << 20),
                    pyarrow.json.ParseOptions(explicit_schema=pa.schema(types)),
                )
        except pa.ArrowInvalid:
            return None
        self.names = list(dict.fromkeys([*self.names, *table.column_names]))
        if self._source_names() != source_names:  # a field that the first lines lack
            return None
        return {known: table[name] for known, name in source_names.items()}

    def _parse_lines(self) -> dict[str, pa.ChunkedArray]:
        """Parse line by line: values of any type, lines that are not objects, any encoding."""
        found: dict[str, None] = {}
        self.malformed, self.line_numbers = [], []
        for number, line in enumerate(self._lines(), start=1):
            record = _parse(line)
            if record is not None:
                found.update(dict.fromkeys(record))
                self.line_numbers.append(number)
            elif line.strip():
                self.malformed.append((number, line.rstrip("\r\n"), "is not a JSON object"))
        number, text, reason = next(iter(self.malformed), (1, "", "is empty"))
        if not found or text.startswith("["):
            remedy = "with `jq -c '.[]'`" if text.startswith("[") else "without line breaks in it"
            raise DataError(
                f"{self.source}, line {number}: {text[:60]!r} {reason}; write one object per line, "
                f"{remedy}"
            )
        self.names = list(found)
        source_names = self._source_names()
        values: dict[str, list[Any]] = {name: [] for name in source_names.values()}
        for record in filter(None, map(_parse, self._lines())):
            for name, column in values.items():
                column.append(record.get(name))
        return {
            known: self._to_arrow(known, name, values.pop(name))
            for known, name in source_names.items()
        }

    def _source_names(self) -> Mapping[str, str]:
        selected = select_columns(self.names, self.options, self.source)
        return {known: self.names[i] for known, i in selected.items()}

    def _to_arrow(self, known: str, name: str, values: list[Any]) -> pa.ChunkedArray:
        for position, value in enumerate(values):
            if known in _IDS and isinstance(value, (dict, list)):
                raise DataError(
                    f"{self.source}, line {self.line_numbers[position]}, column {name!r}: "
                    f"{json.dumps(value)} is not one id; name another field with columns="
                )
        try:
            return pa.chunked_array([pa.array(values)])
        except (pa.ArrowException, OverflowError):  # several types, or integers beyond 64 bits
            text = [None if value is None else str(value) for value in values]
            return pa.chunked_array([pa.array(text, pa.string())])

    def _line_numbers(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.line_numbers:
            return np.array(self.line_numbers, dtype=np.int64)[positions]
        return skip_gaps(self._blank, positions + 1)

    @cached_property
    def _blank(self) -> NDArray[np.int64]:
        blank = [n for n, line in enumerate(self._lines(), start=1) if not line.strip()]
        return np.array(blank, dtype=np.int64)


_ARROW_TYPES: Final = {frozenset([int]): pa.int64(), frozenset([str]): pa.string()}


def _parse(line: str) -> dict[str, Any] | None:
    """The object on a line, or None if there is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
