"""Reader of JSON Lines: text with one JSON object per line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.json

from recsys import columns as names
from recsys.data.arrow import objects_to_text
from recsys.data.detection import DetectedLayout
from recsys.data.dialect import detect_encoding, require_encoding
from recsys.data.files import READ_ERRORS
from recsys.data.layouts import LAYOUTS
from recsys.data.options import ReadOptions
from recsys.data.tables import RawTable, SourceFile, select_columns, unused_columns
from recsys.errors import DataError

_BLOCKS: Final = pyarrow.json.ReadOptions(block_size=16 << 20)


class JsonFile:
    """A file of JSON Lines."""

    def __init__(self, detected: DetectedLayout, name: str, options: ReadOptions) -> None:
        self._open = partial(detected.files.open, name)  # gives the decompressed content
        self.source = detected.files.describe(name)
        self.form = LAYOUTS[detected.name].ratings
        self.options = options
        self.encoding = ""
        self.line_numbers: list[int] = []
        """Numbers of the lines of the rows."""
        self.malformed: list[tuple[int, str, str]] = []

    def read(self) -> RawTable:
        """Read the known fields: with Arrow if all values fit its types, else line by line."""
        try:
            with self._open() as content:
                self.encoding = detect_encoding(content, self.form, self.options.encoding)
            lines = enumerate(self._lines(), start=1)
            self.line_numbers = [number for number, line in lines if line.strip()]
            available, columns = self._parse_with_arrow() or self._parse_lines()
        except READ_ERRORS as error:
            if isinstance(error, UnicodeDecodeError):
                with self._open() as content:
                    require_encoding(content, self.encoding, self.source)
            raise DataError(f"{self.source}: cannot be read: {error}") from error
        selected = select_columns(available, self.options, self.source)
        line_numbers = np.array(self.line_numbers, dtype=np.int64)
        file = SourceFile(
            self.source,
            len(line_numbers),
            lambda positions: line_numbers[positions],
            "line",
            self.malformed,
            "JSON Lines",
        )
        source_names = {known: available[i] for known, i in selected.items()}
        unused = unused_columns(available, selected)
        return RawTable(columns, [file], source_names, has_types=True, unused=unused)

    def _lines(self) -> Iterator[str]:
        with self._open() as content:
            yield from io.TextIOWrapper(content, self.encoding, newline="\n")

    def _select(self, available: list[str]) -> dict[str, str]:
        """Names of the known fields, by ours."""
        selected = select_columns(available, self.options, self.source)
        return {known: available[i] for known, i in selected.items()}

    def _parse_with_arrow(self) -> tuple[list[str], dict[str, pa.ChunkedArray]] | None:
        """Names of all fields, and the known ones, by our names; None if Arrow changes values."""
        if not self.encoding.startswith("utf-8"):
            return None
        try:
            with self._open() as content:
                schema = pyarrow.json.open_json(content, _BLOCKS).schema
            known = [schema.field(name) for name in self._select(schema.names).values()]
            text = [(field.name, pa.string()) for field in known if _is_time(field.type)]
            with self._open() as content:
                form = pyarrow.json.ParseOptions(explicit_schema=pa.schema(text))
                table = pyarrow.json.read_json(content, _BLOCKS, form)
        except pa.ArrowInvalid:
            return None
        columns = {known: table[name] for known, name in self._select(table.column_names).items()}
        is_exact = not any(
            _is_time(column.type) or (pa.types.is_floating(column.type) and known != names.RATING)
            for known, column in columns.items()
        )
        # Arrow also accepts an object on several lines, or several on one.
        has_line_each = len(table) == len(self.line_numbers)
        return (table.column_names, columns) if is_exact and has_line_each else None

    def _parse_lines(self) -> tuple[list[str], dict[str, pa.ChunkedArray]]:
        """Parse line by line: values of any type, lines that are not objects, any encoding."""
        found: dict[str, None] = {}
        self.line_numbers = []
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
        source_names = self._select([*found])
        values: dict[str, list[Any]] = {known: [] for known in source_names}
        for record in map(_parse, self._lines()):
            if record is not None:
                for known, name in source_names.items():
                    values[known].append(record.get(name))
        columns = {k: self._to_arrow(values.pop(k), name) for k, name in source_names.items()}
        return [*found], columns

    def _to_arrow(self, values: list[Any], name: str) -> pa.ChunkedArray:
        try:
            return pa.chunked_array([pa.array(values)])
        except (pa.ArrowException, OverflowError):  # several types, or integers beyond 64 bits
            where = f"{self.source}, line {{}}, column {name!r}".format
            text, _ = objects_to_text(values, lambda row: where(self.line_numbers[row]))
            return pa.chunked_array([text])


def _is_time(kind: pa.DataType) -> bool:
    """Whether Arrow has taken text for times."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_time(kind))


def _parse(line: str) -> dict[str, Any] | None:
    """The object on a line, or None if there is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
