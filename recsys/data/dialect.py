"""How a delimited text file is written: its encoding, separator, column names and quoting.

All of it is settled from the beginning of the file and the options, before any value is read.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import IO, Final

from recsys import columns as names
from recsys.data.charsets import suggest_encodings
from recsys.data.layouts import RATING_COLUMNS, UTF8, TableFormat
from recsys.data.options import ReadOptions
from recsys.data.tables import COLUMNS
from recsys.errors import ConfigError, DataError

SAMPLE_BYTES: Final = 1 << 16
"""Length of the beginning of a file that its dialect is found from."""

UNIT_SEPARATOR: Final = "\x1f"
"""An ASCII character that occurs in no id and no title; it replaces longer separators."""

_SEPARATORS: Final = (",", "\t", ";", "::", "|", " ")
_KINDS: Final = {",": "CSV", "\t": "TSV", " ": "text separated by spaces"}
_NUMBER: Final = re.compile(r"\s*[-+]?[0-9][0-9.,:/TZeE+ -]*(UTC)?\s*")
_MANY: Final = 10
"""So many characters of several bytes are UTF-8 by chance in no text of another encoding."""
_PAIR: Final = 2
"""Columns of a file with only users and items; any separator may be between them."""

_REFUSED: Final = {
    r"[0-9]+:\s*[\r\n]": (
        "has one block per item, as Netflix' raw files; write it as one table, "
        """`awk -F: 'NF > 1 { item = $1; next } { print item "," $0 }'`, and """
        'set columns = ["item_id", "user_id", "rating", "timestamp"]'
    ),
    r"'[^'\r\n]*'([,;|\t]'[^'\r\n]*')*[\r\n]": "is in single quotation marks; write double ones",
    r"#": "is a comment, not the header; remove the line, or the # before the names",
}
"""What the first line of other files is like, and what to do about it."""


_DECLARED: Final = re.compile(r'"?sep=([^\r\n"]+?)"? *(?:\r\n|\r|\n)', re.IGNORECASE)
"""A first line with the separator, which Excel reads and other programs write for it."""


@dataclass(frozen=True)
class Dialect:
    """How one text file is written."""

    encoding: str
    separator: str
    names: tuple[str, ...]
    """Names of all columns in order."""
    n_skipped: int
    """Number of lines before the first row: to the header or, without one, blank ones and that
    which declares the separator."""
    has_header: bool
    has_quotes: bool
    """Whether fields may be in quotation marks; otherwise these are part of the text."""

    @property
    def delimiter(self) -> str:
        """The single byte that `Scanner` writes for a separator."""
        return self.separator if len(self.separator.encode()) == 1 else UNIT_SEPARATOR

    def __str__(self) -> str:
        kind = _KINDS.get(self.separator, f"text separated by {self.separator!r}")
        encoding = self.encoding.removesuffix("-sig").upper()
        return f"{kind}, {encoding}" + ("" if self.has_header else ", without a header")


def detect_encoding(
    start: bytes, content: IO[bytes], fallback: str, declared: str | None = None
) -> str:
    """The encoding of some text.

    It is UTF-8 if many characters are, and none is not, whatever is declared: files of a folder may
    be in several encodings, and any other one reads UTF-8, too, but wrongly. Otherwise it is the
    declared one or, without one, UTF-16, or UTF-8, or `fallback` if it is not UTF-8 to its end.

    Args:
        start: The beginning of the text.
        content: The rest.
        fallback: Another encoding; or UTF-8, and the rest is not read.
        declared: The declared encoding.
    """
    if declared is None:
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        if 0 in start[:4]:  # without a mark
            return "utf-16-le" if start[1:2] == b"\0" else "utf-16-be"
    other, n_characters = declared or fallback, 0
    if other == UTF8:
        return UTF8
    decoder = codecs.getincrementaldecoder(UTF8)()
    try:
        for block in chain([start], iter(lambda: content.read(1 << 20), b"")):
            n_characters += _count_leads(block)
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return other
    return UTF8 if declared is None or n_characters >= _MANY else declared


def _count_leads(data: bytes) -> int:
    """The number of bytes with which characters of several bytes begin, in UTF-8."""
    return len(data.translate(None, bytes(range(0xC0))))


def encoding_named(name: str) -> str:
    """Python's name of an encoding; UTF-8 may have a mark."""
    known = codecs.lookup(name).name
    return {"utf-8": UTF8, "iso8859-1": "latin-1"}.get(known, known)


def require_encoding(content: IO[bytes], encoding: str, source: str) -> None:
    """Raise a DataError at the first byte of another encoding."""
    data = content.read()
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode(encoding, "ignore")
        line, name = 1 + before.count("\n"), encoding.removesuffix("-sig")
        raise DataError(
            f"{source}, line {line}: byte {error.object[error.start]:#04x} is not {name} text; "
            + _encoding_remedy(data[: error.start], data[error.start :], encoding)
        ) from error


def _encoding_remedy(before: bytes, rest: bytes, encoding: str) -> str:
    """What to do about the first bytes that are not text of an encoding, given those before."""
    if encoding == UTF8 and _count_leads(before) >= _MANY:
        return "the text before it is: correct this line"
    line = before[before.rfind(b"\n") + 1 :]
    found = suggest_encodings(line + rest)
    read = f"set encoding to the one that reads it right, {found}, or " if found else ""
    return f"{read}save the file as UTF-8" + ("" if found else ", or set encoding")


class NoRowsError(DataError):
    """A file has a header, but no rows."""


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
    declared, content = split_declared(text)
    line = 1 + len(re.findall("\r\n|\r|\n", text[: len(text) - len(content)]))
    where = f"{source}, line {line}"
    for start, problem in _REFUSED.items():
        if re.match(start, content):
            raise DataError(f"{where}: {problem}")
    separators = _candidates(form, options.separator or declared)
    separator = _find_header(content, separators, options)
    columns: tuple[str, ...] = ()
    if separator is None:
        separator, columns = _split_without_header(content, separators, form, options, where)
    rows = _split_lines(content, separator)
    header = [] if columns else rows.pop(0)
    columns = columns or tuple(map(_unquote, header))
    if separator != " " and _has_blanks(header) and any(map(_has_blanks, rows[:1])):
        raise DataError(f"{where}: there are blanks next to {separator!r}; remove them")
    if not rows and len(sample) < SAMPLE_BYTES:
        raise NoRowsError(f"{source}: there are no rows in it, only a header")
    if header and _have_width(rows, len(columns) + 1):
        raise DataError(
            f"{where}: rows have {len(columns) + 1} columns, but the header has {len(columns)}; if "
            "the first is a table index, write the table without it (pandas: index=False), else "
            "name every column in the header"
        )
    has_quotes = separator in ",;" or (header and columns != tuple(header))
    has_quotes = has_quotes or _is_quoted(rows, separator)
    n_skipped = line if header else line - 1
    return Dialect(encoding, separator, columns, n_skipped, bool(header), bool(has_quotes))


def split_declared(text: str) -> tuple[str | None, str]:
    r"""The separator that the first line of some text declares, if it does, and the text after it.

    Blank lines are left out.

    >>> split_declared("sep=;\nuser_id;item_id\n")
    (';', 'user_id;item_id\n')
    """
    text = text.lstrip("\r\n")
    found = _DECLARED.match(text)
    return (found[1], text[found.end() :].lstrip("\r\n")) if found else (None, text)


def _split_lines(text: str, separator: str) -> list[list[str]]:
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


def _candidates(form: TableFormat, declared: str | None) -> Sequence[str]:
    """The declared separator, or all that are known: first the one of the layout."""
    if declared is None:
        return form.separator, *(s for s in _SEPARATORS if s != form.separator)
    separator = declared.replace("\\t", "\t")
    if not separator or set(separator) & set('\r\n"'):
        raise ConfigError(f"separator = {declared!r} cannot separate columns")
    return (separator,)


def _find_header(text: str, separators: Sequence[str], options: ReadOptions) -> str | None:
    """The separator by which the first line names columns of ids, if it does."""
    mapped = options.columns.values() if isinstance(options.columns, dict) else ()
    for separator in separators:
        first = [_unquote(field) for field in _split_lines(text, separator)[0]]
        known = {*names.IDS} & names.match(first, COLUMNS).keys()
        is_given = tuple(first) == options.columns
        if len(first) > 1 and (known or is_given or set(mapped) & set(first)):
            return separator
    return None


def _split_without_header(
    text: str, separators: Sequence[str], form: TableFormat, options: ReadOptions, where: str
) -> tuple[str, tuple[str, ...]]:
    """The separator and the names of the columns.

    There are no names if the first line must be a header, with names that are not known.
    """
    given = options.columns if isinstance(options.columns, tuple) else ()
    expected = given or form.names or ()
    tables = {separator: _split_lines(text, separator) for separator in separators}
    fitting = [name for name, rows in tables.items() if _have_width(rows, len(expected))]
    if len(expected) > _PAIR and not given:  # as in MovieLens, and no other file
        fitting = [name for name in fitting if name == separators[0]]
    several = [name for name, rows in tables.items() if len(rows[0]) > 1]
    widths = {name: len(row[0]) for name, row in tables.items() if _have_width(row, len(row[0]))}
    widest = max(separators, key=lambda name: widths.get(name, 0))
    # More columns than expected: the file is of another kind, or split within its values.
    is_other = not given and widths.get(widest, 0) > max(len(expected), _PAIR)
    if is_other:
        fitting, several = [], [widest]
    separator = (fitting or several or separators)[0]
    first, *others = tables[separator]
    numbers_follow = others and all(is_number(field) for row in others for field in row[:2])
    has_header = form.names is None or is_other or numbers_follow
    if not given and has_header and not any(map(is_number, first)):
        return separator, ()
    if not fitting or (len(fitting) > 1 and (separator != form.separator or separator == " ")):
        wrong = f"may be separated by {' or '.join(map(repr, fitting))}"
        if not fitting:
            usual = separator.join(expected or RATING_COLUMNS)
            wrong = f"does not name the columns, and is not {usual!r}"
        raise DataError(
            f'{where}: {separator.join(first)!r} {wrong}; name all columns in order, "_" for one '
            'that is not used: columns = ["user_id", "item_id", "rating", "timestamp"], and choose '
            f"separator = {separator!r}; if a line is a user and many items, write one item a line"
        )
    return separator, expected


def _is_quoted(rows: Sequence[Sequence[str]], separator: str) -> bool:
    """Whether quotation marks enclose fields: where these need them, or in whole columns.

    Otherwise a mark is text, as in `"Weird Al" Yankovic`. Where fields need them, any other mark
    is refused later.
    """
    fields = [(i, field) for row in rows for i, field in enumerate(row) if field not in ("", "NA")]
    marked = [(i, field, _unquote(field)) for i, field in fields if field.startswith('"')]
    enclosed = [(i, text) for i, field, text in marked if text != field]
    if any('"' in text or separator in text for _, text in enclosed):
        return True
    plain = {i for i, field in fields if not field.startswith('"')}
    return 0 < len(enclosed) == len(marked) and plain.isdisjoint(i for i, _ in enclosed)


def is_number(field: str) -> bool:
    """Whether a field looks like a number or a date, so that it names no column."""
    return _NUMBER.fullmatch(_unquote(field)) is not None


def _unquote(field: str) -> str:
    """A field without the quotation marks around it."""
    if re.fullmatch(r'"(?:[^"]|"")*+"', field):
        return field[1:-1].replace('""', '"')
    return field


def _has_blanks(fields: Sequence[str]) -> bool:
    return any(field != field.strip() for field in fields)


def _have_width(rows: Sequence[Sequence[str]], width: int) -> bool:
    """Whether most rows have a number of fields."""
    return 2 * sum(len(row) == width for row in rows) > len(rows)
