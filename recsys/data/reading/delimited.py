"""Ratings in text files of delimited columns, read by Arrow's parser."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from recsys import columns as names
from recsys.data.reading.files import BROKEN, Files, open_unpacked
from recsys.data.reading.layouts import Format
from recsys.data.reading.lines import (
    UNIT_SEPARATOR,
    Lines,
    name_bad_byte,
    refuse_open_quotes,
)
from recsys.data.reading.raw import Part, RawRatings, choose_columns
from recsys.errors import DataError

_SMALL_NUMBERS = {
    names.USER_ID: pa.int32(),
    names.ITEM_ID: pa.int32(),
    names.RATING: pa.float32(),
    names.TIMESTAMP: pa.int64(),
}
_NUMBERS = _SMALL_NUMBERS | {names.USER_ID: pa.int64(), names.ITEM_ID: pa.int64()}
# Ids that are not numbers, or not written as numbers are, are stored once for each distinct one.
_ID = pa.dictionary(pa.int32(), pa.string())
_TEXT_IDS = _NUMBERS | {names.USER_ID: _ID, names.ITEM_ID: _ID}
_TEXT = _TEXT_IDS | {names.RATING: pa.string(), names.TIMESTAMP: pa.string()}

# Of a dictionary per block, few large ones are joined faster than many small ones.
_BLOCK_BYTES = 16 << 20


class _Head(NamedTuple):
    """The beginning of a file."""

    columns: list[str]
    """What the columns are called."""
    lines: int
    """How many lines come before the first row."""


def read_delimited(
    files: Files, name: str, form: Format, columns: Mapping[str, str] | None
) -> RawRatings:
    """Read our columns of a text file.

    Args:
        files: where it lies.
        name: which file.
        form: how it is written.
        columns: what it calls our columns, where that is not told by their names.

    Raises:
        DataError: the file is broken or empty, is not text of this form, or lacks a column.
    """
    source = files.describe(name)
    try:
        head = _read_head(files, name, form)
        chosen = choose_columns(head.columns, columns, source)
        table, odd = _parse_as_fits(files, name, form, head, chosen)
        if form.quoted and _may_hide_lines(files, name, head, table, odd):
            refuse_open_quotes(files, name)
    except BROKEN as error:
        if "invalid UTF8 data" in str(error) or isinstance(error, UnicodeDecodeError):
            raise DataError(name_bad_byte(files, name, form)) from error
        if "out of sync with chunker" in str(error):  # a quotation mark that is not closed
            refuse_open_quotes(files, name)
        raise DataError(f"{source}: cannot be read: {error}") from error
    lines = Lines(files, name, head.lines, np.array([row.number for row in odd], dtype=np.int64))
    part = Part(source, len(table), lines, "line", lines.malformed(odd, form) if odd else ())
    called = {ours: head.columns[position] for ours, position in chosen.items()}
    return RawRatings({ours: table[ours] for ours in chosen}, [part], called, typed=False)


def _read_head(files: Files, name: str, form: Format) -> _Head:
    """Find the names of the columns, and where the rows begin."""
    encoding = "utf-8-sig" if form.encoding == "utf-8" else form.encoding
    with open_unpacked(files, name) as stored:
        numbered = enumerate(io.TextIOWrapper(stored, encoding, newline=""), start=1)
        filled = ((number, line) for number, line in numbered if line.strip("\r\n"))
        first, second = next(filled, None), next(filled, None)
    if first is None:
        raise DataError(f"{files.describe(name)}: the file is empty")
    if form.names is not None:
        return _Head(list(form.names), 0)
    if second is None:
        raise DataError(f"{files.describe(name)}: there are no rows in it, only a header")
    columns, row = csv.reader(
        [first[1].rstrip("\r\n"), second[1].rstrip("\r\n")], delimiter=form.separator
    )
    if len(row) == len(columns) + 1 and not row[-1]:
        columns.append("")  # a separator at the end of each row shifts no column
    return _Head(columns, first[0])


def _parse_as_fits(
    files: Files, name: str, form: Format, head: _Head, chosen: Mapping[str, int]
) -> tuple[pa.Table, list[pyarrow.csv.InvalidRow]]:
    """Read the chosen columns as numbers; where that fails, as text, which is slower.

    Returns:
        The columns, and the lines that are no rows.
    """
    for types in (_SMALL_NUMBERS, _NUMBERS, _TEXT_IDS):
        try:
            return _parse(files, name, form, head, chosen, types)
        except (pa.ArrowInvalid, _PaddedError):
            continue
    # Not all ratings and times are numbers, or not all lines are rows: as text, and line by line,
    # it can be told which are not.
    return _parse(files, name, form, head, chosen, _TEXT)


class _PaddedError(Exception):
    """Ids would not survive being read as numbers."""


def _parse(
    files: Files,
    name: str,
    form: Format,
    head: _Head,
    chosen: Mapping[str, int],
    types: Mapping[str, Any],
) -> tuple[pa.Table, list[pyarrow.csv.InvalidRow]]:
    """As `_parse_as_fits`, with these types; only all as text is line by line."""
    # Compiled by numba, which takes half a second to import; most who import this read nothing.
    from recsys.data.reading.padding import PaddingWatch

    stored_names = [f"#{position}" for position in range(len(head.columns))]
    for ours, position in chosen.items():
        stored_names[position] = ours
    odd: list[pyarrow.csv.InvalidRow] = []

    def set_aside(row: pyarrow.csv.InvalidRow) -> str:
        odd.append(row)
        return "skip" if types is _TEXT else "error"

    with open_unpacked(files, name) as stored:
        content, separator = _narrow(stored, form.separator)
        watch = PaddingWatch(content, separator) if types[names.USER_ID] is not _ID else None
        table = pyarrow.csv.read_csv(
            watch or content,
            pyarrow.csv.ReadOptions(
                use_threads=types is not _TEXT,  # only one thread can count lines
                block_size=_BLOCK_BYTES,
                skip_rows=head.lines,
                column_names=stored_names,
                encoding="utf8" if form.encoding == "utf-8" else form.encoding,
            ),
            pyarrow.csv.ParseOptions(
                delimiter=separator,
                quote_char='"' if form.quoted else False,
                invalid_row_handler=set_aside,
            ),
            pyarrow.csv.ConvertOptions(
                column_types=types,
                include_columns=list(chosen),
                null_values=[""],  # a user may be called NA
                strings_can_be_null=True,
            ),
        )
    if watch and watch.found:
        raise _PaddedError
    return table, odd


def _narrow(stored: IO[bytes], separator: str) -> tuple[IO[bytes], str]:
    """Content that is separated by one byte, as Arrow needs it, and that byte."""
    if len(separator) == 1:
        return stored, separator
    replaced = stored.read().replace(separator.encode(), UNIT_SEPARATOR.encode())
    return io.BytesIO(replaced), UNIT_SEPARATOR


def _may_hide_lines(
    files: Files, name: str, head: _Head, table: pa.Table, odd: list[pyarrow.csv.InvalidRow]
) -> bool:
    """Whether a quotation mark that is not closed may have swallowed the lines after it."""
    if any("\n" in row.text for row in odd):
        return True
    if any(_has_line_break(chunk) for column in table.columns for chunk in column.chunks):
        return True
    if len(table.columns) == len(head.columns):
        return False
    with open_unpacked(files, name) as stored:  # it may be in a column that was not read
        return any(b'"' in chunk for chunk in iter(lambda: stored.read(1 << 20), b""))


def _has_line_break(chunk: pa.Array) -> bool:
    text = chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk
    return pa.types.is_string(text.type) and pc.any(pc.match_substring(text, "\n")).as_py() is True
