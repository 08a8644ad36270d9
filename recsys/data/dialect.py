"""How a delimited text file is written: its encoding, separator, column names and quoting.

All of it is settled from the beginning of the file and the options, before any value is read.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Final

from recsys import columns as names
from recsys.data.layouts import TableFormat
from recsys.data.options import ReadOptions
from recsys.data.tables import COLUMNS
from recsys.errors import ConfigError, DataError

SAMPLE_BYTES: Final = 1 << 16
"""Length of the beginning of a file that its dialect is found from."""

UNIT_SEPARATOR: Final = "\x1f"
"""An ASCII character that occurs in no id and no title; it replaces longer separators."""

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SEPARATORS: Final = (",", "\t", ";", "::", "|", " ")
_KINDS: Final = {",": "CSV", "\t": "TSV", " ": "text separated by spaces"}
_ENCODINGS: Final = {"utf-8-sig": "UTF-8", "utf-8": "UTF-8", "cp1252": "Windows-1252"}

_PAIR: Final = 2
"""Columns of a file with only users and items; any separator may be between them."""

_NUMBER: Final = re.compile(r"\s*[-+]?[0-9][0-9.,:/TZeE+ -]*(UTC)?\s*")
_REMEDY: Final = (
    'name all columns in order, "_" for one that is not used: '
    'columns = ["user_id", "item_id", "rating", "timestamp"]'
)


@dataclass(frozen=True)
class Dialect:
    """How one text file is written."""

    encoding: str
    separator: str
    names: tuple[str, ...]
    """Names of all columns in order."""
    header_line: int
    """Number of the line with the names, from one; 0 if there is none."""
    ends_with_separator: bool
    """Whether the last column is only due to a separator at the end of each row."""
    has_quotes: bool
    """Whether fields may be in quotation marks; otherwise these are part of the text."""

    def __str__(self) -> str:
        kind = _KINDS.get(self.separator, f"text separated by {self.separator!r}")
        encoding = _ENCODINGS.get(self.encoding, self.encoding.upper())
        return f"{kind}, {encoding}" + ("" if self.header_line else ", without a header")


def detect_encoding(content: IO[bytes], form: TableFormat, declared: str | None) -> str:
    """Find the encoding of some text: as declared, by its byte order mark, or UTF-8.

    Text that may be Latin-1 is so if it is not UTF-8 to its end.

    Raises:
        ConfigError: The declared encoding is unknown.
    """
    if declared is not None:
        try:
            name = codecs.lookup(declared).name
        except LookupError as error:
            raise ConfigError(
                f"no encoding {declared!r}; name one such as utf-8, latin-1 or utf-16"
            ) from error
        return {"utf-8": "utf-8-sig", "iso8859-1": "latin-1"}.get(name, name)
    start = content.read(4)
    for mark, name in _MARKS:
        if start.startswith(mark):
            return name
    if start[1::2] == b"\0\0" or start[::2] == b"\0\0" != start[1::2]:
        return "utf-16-le" if start[1] == 0 else "utf-16-be"
    if form.encoding == "utf-8":
        return "utf-8-sig"
    fitting = {name: codecs.getincrementaldecoder(name)() for name in ("utf-8", "cp1252")}
    block = start
    while block and fitting:
        for name, decoder in list(fitting.items()):
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                del fitting[name]
        block = content.read(1 << 20)
    return next(iter(fitting), "latin-1")


def require_encoding(content: IO[bytes], encoding: str, source: str) -> None:
    """Raise a DataError at the first byte of another encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line, is_end = 1, False
    try:
        while not is_end:
            block = content.read(1 << 20)
            is_end = not block
            line += decoder.decode(block, final=is_end).count("\n")
    except UnicodeDecodeError as error:
        line += error.object[: error.start].count(b"\n")
        byte, name = error.object[error.start], encoding.removesuffix("-sig")
        raise DataError(
            f"{source}, line {line}: byte {byte:#04x} is not {name} text; name its encoding, such "
            'as encoding = "latin-1", or save the file as UTF-8'
        ) from error


def detect_dialect(
    sample: bytes, encoding: str, form: TableFormat, options: ReadOptions, source: str
) -> Dialect:
    """Find how a file is written from its first `SAMPLE_BYTES`.

    Raises:
        DataError: There are no rows, no column names, or names that do not fit the rows.
    """
    text = codecs.getincrementaldecoder(encoding)().decode(sample)
    if len(sample) == SAMPLE_BYTES:  # the last line is cut off
        text = text[: max(text.rfind("\n"), text.rfind("\r")) + 1] or text
    if not text.strip("\r\n"):
        raise DataError(f"{source}: the file is empty")
    if re.match(r"[0-9]+:\s*[\r\n]", text):
        raise DataError(
            f"{source}: has one block per item, as Netflix' raw files; write it as one table, "
            f"""`awk -F: 'NF > 1 {{ item = $1; next }} {{ print item "," $0 }}'`, and """
            'set columns = ["item_id", "user_id", "rating", "timestamp"]'
        )
    separator, rows = _find_separator(text, form, options, source)
    first = [_unquote(field) for field in rows[0]]
    line = 1 + len(re.findall(r"\r\n|\r|\n", text[: re.search(r"[^\r\n]", text).start()]))  # type: ignore[union-attr]
    if all(re.fullmatch("'.*'", field) for field in first):
        raise DataError(f"{source}, line {line}: is in single quotation marks; write double ones")
    columns = None
    if not _is_header(first, options):
        columns = _names_without_header(rows, separator, form, options, f"{source}, line {line}")
    has_header = columns is None
    is_wider = False
    if columns is None:
        columns = tuple(first)
        if len(rows) == 1:
            raise DataError(f"{source}: there are no rows in it, only a header")
        if is_wider := _ends_with_separator(columns, rows[1:], f"{source}, line {line}"):
            columns += ("",)
    has_quotes = separator in ",;" or _is_quoted(rows, separator, int(has_header), source)
    return Dialect(encoding, separator, columns, line if has_header else 0, is_wider, has_quotes)


def split_lines(text: str, separator: str) -> list[list[str]]:
    """The fields of the lines that are not blank, with their quotation marks."""
    end = rf"{re.escape(separator)}|\r\n|\r|\n|\Z"
    quoted = r'"(?:[^"]|"")*+"' if separator in ",;" else r'"(?:[^"\r\n]|"")*+"'
    plain = rf"(?:(?!{re.escape(separator)})[^\r\n])*"
    rows, row = [], []
    for match in re.finditer(rf"({quoted}(?={end})|{plain})({end})", text):
        row.append(match[1])
        if match[2] != separator:
            if row != [""]:
                rows.append(row)
            row = []
    return rows


def _find_separator(
    text: str, form: TableFormat, options: ReadOptions, source: str
) -> tuple[str, list[list[str]]]:
    """The separator by which the first line has known names, or lines the expected width."""
    if options.separator is not None:
        separator = options.separator.replace("\\t", "\t")
        if not separator or set(separator) & set('\r\n"'):
            raise ConfigError(f"separator = {options.separator!r} cannot separate columns")
        return separator, split_lines(text, separator)
    given = options.columns if isinstance(options.columns, tuple) else ()
    expected = len(given or form.names or ())
    fitting, widths = {}, {}
    for separator in (form.separator, *(s for s in _SEPARATORS if s != form.separator)):
        rows = split_lines(text, separator)
        widths[separator] = _usual_width(rows)
        if len(rows[0]) > 1 and _is_header([_unquote(field) for field in rows[0]], options):
            return separator, rows
        n_fitting = sum(len(row) == expected for row in rows)
        if 2 * n_fitting > len(rows) and (given or expected == _PAIR):
            fitting[separator] = rows
    if len(fitting) > 1 and (form.separator not in fitting or form.separator == " "):
        raise DataError(
            f"{source}: the columns may be separated by {' or '.join(map(repr, fitting))}; choose "
            f"one: separator = {next(iter(fitting))!r}"
        )
    chosen = next(iter(fitting), form.separator)
    if widths[chosen] == 1:
        chosen = max(widths, key=lambda separator: widths[separator])
    return chosen, split_lines(text, chosen)


def header_separator(text: str, default: str) -> str:
    """The separator by which the first line of a table of items names their ids."""
    for separator in (default, *_SEPARATORS):
        first = next(iter(split_lines(text[:SAMPLE_BYTES], separator)), [])
        if len(first) > 1 and names.ITEM_ID in names.match(list(map(_unquote, first)), COLUMNS):
            return separator
    return default


def _is_header(fields: Sequence[str], options: ReadOptions) -> bool:
    """Whether a line names columns of ids."""
    if isinstance(options.columns, dict) and set(options.columns.values()) & set(fields):
        return True
    if tuple(fields) == options.columns:
        return True
    found = names.match(fields, COLUMNS)
    return names.USER_ID in found or names.ITEM_ID in found


def _names_without_header(
    rows: list[list[str]], separator: str, form: TableFormat, options: ReadOptions, where: str
) -> tuple[str, ...] | None:
    """The names of the columns, or None if the first line must be a header, with any names."""
    width = _usual_width(rows)
    if isinstance(options.columns, tuple):
        if len(options.columns) == width:
            return options.columns
        return next(tuple(row) for row in rows if len(row) == width)
    first, others = rows[0], rows[1:]
    is_text = not any(map(is_number, first))
    if form.names is None:
        if is_text:
            return None
        raise DataError(f"{where}: {separator.join(first)!r} is not a header; {_REMEDY}")
    expected = len(form.names)
    if separator != form.separator and options.separator is None and expected != _PAIR:
        raise DataError(
            f"{where}: the columns of {separator.join(first)!r} have no names; {_REMEDY}"
        )
    if 2 * sum(len(row) == expected for row in rows) < len(rows):
        raise DataError(
            f"{where}: {separator.join(first)!r} has {len(first)} columns instead of {expected} "
            f"({', '.join(form.names)}); {_REMEDY}"
            + (", or write one pair per line" if expected == _PAIR else "")
        )
    if is_text and others and all(is_number(field) for row in others for field in row[:2]):
        raise DataError(
            f"{where}: {separator.join(first)!r} seems to be a header with unknown names; say what "
            f"they mean: columns = {{user_id = {first[0]!r}, item_id = {first[-1]!r}}}"
        )
    return form.names


def _ends_with_separator(columns: Sequence[str], rows: list[list[str]], where: str) -> bool:
    """Whether rows have an empty column more than the header; refuse rows that are shifted."""
    wider = [row for row in rows if len(row) == len(columns) + 1]
    if len(columns) == 1 or 2 * len(wider) <= len(rows):
        return False
    is_index = [_unquote(row[0]) for row in wider] == [str(i) for i in range(len(wider))]
    if any(row[-1] for row in wider) or (is_index and len(wider) > 1):
        raise DataError(
            f"{where}: rows have {len(columns) + 1} columns, but the header has {len(columns)}: a "
            "table index without a name shifts the others; write the table without it (pandas: "
            "index=False), or give it a name in the header"
        )
    return True


def _is_quoted(rows: list[list[str]], separator: str, n_headers: int, source: str) -> bool:
    """Whether quotation marks enclose fields: where these need them, or in whole columns.

    A quoted header decides. Otherwise a mark is text, as in `"Weird Al" Yankovic`. Where fields
    need them, any other mark is refused later.
    """
    if n_headers and any(field != _unquote(field) for field in rows[0]):
        return True
    width = _usual_width(rows)
    needless, bare, is_needed, is_open = set(), set(), False, False
    for row in rows[n_headers:]:
        for position, field in enumerate(row):
            text = _unquote(field)
            if not field.startswith('"'):
                bare |= {position} if field not in ("", "NA") else set()
            elif text == field:
                is_open = True
            elif '"' in text or (separator in text and len(row) == width):
                is_needed = True
            else:
                needless.add(position)
    if is_needed and needless & bare:
        raise DataError(
            f"{source}: quotation marks enclose some fields of column {min(needless & bare) + 1} "
            "that do not need them, but not others; quote all values of a column or none"
        )
    return is_needed or (bool(needless) and not is_open and not needless & bare)


def is_number(field: str) -> bool:
    """Whether a field looks like a number or a date, so that it names no column."""
    return _NUMBER.fullmatch(_unquote(field)) is not None


def _unquote(field: str) -> str:
    """A field without the quotation marks around it."""
    if re.fullmatch(r'"(?:[^"]|"")*+"', field):
        return field[1:-1].replace('""', '"')
    return field


def _usual_width(rows: list[list[str]]) -> int:
    return Counter(map(len, rows)).most_common(1)[0][0]
