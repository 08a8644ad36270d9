"""Reader of JSON Lines: text with one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

import pyarrow as pa
import pyarrow.json

from recsys.data.tables import RawTable, select_columns
from recsys.data.text import TextFile
from recsys.errors import DataError

_BLOCKS: Final = pyarrow.json.ReadOptions(block_size=16 << 20)


class JsonFile(TextFile):
    """A file of JSON Lines, in which each field has values of one type."""

    has_types = True

    def read(self) -> RawTable:
        """Read the known fields.

        Raises:
            DataError: The file is broken or empty, or a line does not fit the others.
        """
        with self.reading():
            table = self._parse()
            selection = select_columns(table.column_names, self.options, self.source)
            times = [name for name in selection.source_names.values() if _is_time(table[name].type)]
            if times:  # Arrow has taken text for times
                table = self._parse(times)
            columns = {known: table[name] for known, name in selection.source_names.items()}
            for column in columns.values():
                column.validate(full=True)  # Arrow accepts text that is not UTF-8
        return self.to_table(columns, selection, "JSON Lines")

    def _parse(self, text: Iterable[str] = ()) -> pa.Table:
        """Parse with the types that Arrow finds, or as text."""
        schema = pa.schema([(name, pa.string()) for name in text])
        try:
            with self.open() as content:
                scanner = self.scanner(content)
                form = pyarrow.json.ParseOptions(explicit_schema=schema)
                table = pyarrow.json.read_json(scanner, _BLOCKS, form)
            self.find_gaps(len(table), scanner.n_lines, 0, {})
        except pa.ArrowInvalid:
            self._refuse_line()
            raise
        if len(table) + len(self.gaps) != scanner.n_lines:  # Arrow also takes other line breaks
            self._refuse_line()
        return table

    def _refuse_line(self) -> None:
        """Raise a `DataError` that names the first line that is no object or has another type."""
        types: dict[str, tuple[type, int]] = {}
        with self.open() as content:
            lines = self.scanner(content).read_lines(-1).splitlines()
        for number, line in enumerate(lines, start=1):
            where = f"{self.source}, line {number}"
            try:
                record = json.loads(line or "{}")
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict):
                way = "with `jq -c '.[]'`" if line.startswith(b"[") else "without line breaks in it"
                raise DataError(
                    f"{where}: {line[:60].decode()!r} is not a JSON object; write one object per "
                    f"line, {way}"
                )
            for name, value in record.items():
                kind = float if type(value) is int else type(value)
                first, at = types.setdefault(name, (kind, number))
                if first is type(None):
                    types[name] = kind, number
                elif kind not in (first, type(None)):
                    raise DataError(
                        f"{where}, field {name!r}: {value!r} is of another type than in line {at}; "
                        "write all values of a field as one type, or leave the field out"
                    )


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_time(kind))
