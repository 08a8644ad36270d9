"""The header of a table, before it is read: whether it names columns of users and items."""

from __future__ import annotations

import io
import re
from typing import IO, Final

import pyarrow.parquet as pq

from recsys import columns
from recsys.data.charsets import suggest_encodings
from recsys.data.dialect import (
    SAMPLE_BYTES,
    detect_encoding,
    encoding_named,
    is_number,
    split_declared,
)
from recsys.data.files import READ_ERRORS, FileStore, base_name
from recsys.data.layouts import UTF8, TableFormat
from recsys.data.options import ReadOptions
from recsys.data.tables import COLUMNS

_N_SHOWN: Final = 8
"""So many column names are in a message."""


def why_no_log(files: FileStore, name: str, form: TableFormat, options: ReadOptions) -> str:
    """Why a table has no ratings; empty if it has columns of users and items, or no header."""
    problem = ""
    try:
        with files.open(name) as content:
            if base_name(name).endswith(".parquet"):
                line, header = "", pq.read_schema(content).names
            else:
                separator, line, problem = _first_line(content, options)
                header = _column_names(line, separator)
    except READ_ERRORS:
        return ""  # reading it will say more
    mapped = options.columns if isinstance(options.columns, dict) else {}
    found = {*columns.match(header, [name for name in COLUMNS if name not in mapped])}
    found |= {ours for ours, name in mapped.items() if name in header}
    has_user = {columns.USER_ID, columns.SESSION_ID} & found
    missing = [] if has_user else [columns.USER_ID]
    missing += [] if columns.ITEM_ID in found else [columns.ITEM_ID]
    if not missing:
        return ""
    if form.separator == " ":  # pairs of `user item`, or else lists of items
        words = line.split()
        is_pair = len(words) == 2 or all(map(str.isdecimal, words))
        return "" if is_pair else "its first line is no user and item"
    has_header = not form.names and isinstance(options.columns, dict)
    if not has_header or any(map(is_number, header)):
        return ""
    if problem and not "".join(mapped.values()).isascii():
        return ""  # the names may be in it, and reading it will say more
    wanted = ", ".join(repr(mapped.get(ours) or ours) for ours in missing)
    among = ", ".join(map(repr, header[:_N_SHOWN])) + (", ..." if len(header) > _N_SHOWN else "")
    return problem or f"no column {wanted} among {among}"


def _first_line(content: IO[bytes], options: ReadOptions) -> tuple[str | None, str, str]:
    """The separator that is declared, the line after it, and what is wrong with its encoding."""
    start = content.read(SAMPLE_BYTES)
    declared = None if options.encoding is None else encoding_named(options.encoding)
    lines = start[: start.rfind(b"\n") + 1] or start
    encoding = detect_encoding(lines, io.BytesIO(), UTF8, declared)
    separator, text = split_declared(start.decode(encoding, "replace").strip("\ufeff \r\n"))
    line = re.split("[\r\n]", text, maxsplit=1)[0].strip()
    if "\ufffd" not in line:
        return options.separator or separator, line, ""
    readings = suggest_encodings(start)
    choice = f" (set encoding to the one that reads it right, {readings})" if readings else ""
    return separator, line, f"is not {encoding.removesuffix('-sig')} text{choice}"


def _column_names(line: str, separator: str | None) -> list[str]:
    """The column names in the first line of a text file."""
    if line.startswith("{"):
        return re.findall(r'"([^"]*)"\s*:', line)
    fields = re.split(re.escape(separator) if separator else r"::|[,;\t|]", line)
    return [field.strip().strip('"') for field in fields]
