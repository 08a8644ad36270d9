"""A stream of text for Arrow: UTF-8, one byte between columns, and watched while it is read."""

from __future__ import annotations

import codecs
import io
from typing import IO

import numpy as np

from recsys.data.dialect import Dialect


class UncertainQuotesError(Exception):
    """A quotation mark is not closed on its line, or something follows the one that closes it."""


class Scanner(io.RawIOBase):
    """A file wrapper that converts text, and looks for padding and doubtful quotation marks.

    Padding means that fields are not canonical integers, for example `007`, `+7`, `7 ` or `0x7`,
    and would change if they were parsed as integers. Any blank or non-ASCII byte counts, wherever
    it is: a false alarm costs time, a missed one loses an id.

    Raises:
        UncertainQuotesError: While reading. It may be a false alarm, never a missed one.
    """

    def __init__(self, content: IO[bytes], dialect: Dialect) -> None:
        super().__init__()
        self._content: IO[bytes] | io.TextIOWrapper = content
        if dialect.encoding != "utf-8-sig":
            self._content = io.TextIOWrapper(content, dialect.encoding, newline="")
        self._separators = dialect.separator.encode(), dialect.delimiter.encode()
        self._has_quotes = dialect.has_quotes
        self.has_padding = False
        self.n_lines = 0

    def readable(self) -> bool:  # noqa: D102
        return True

    def read(self, size: int = -1) -> bytes:  # noqa: D102
        # Whole lines, unless these are huge. A character has up to four bytes.
        size = max(size // 8, 1) if isinstance(self._content, io.TextIOWrapper) else size // 2
        return self.read_lines(size, size)

    def read_lines(self, size: int, limit: int = -1) -> bytes:
        """Read a number of bytes or characters, and at most `limit` more to the end of a line."""
        from recsys.data.encoding import contains_padding  # numba is slow to import

        raw = self._content.read(size) + self._content.readline(limit)  # type: ignore[operator]
        block: bytes = raw.encode() if isinstance(raw, str) else raw
        if self.n_lines == 0:
            block = block.removeprefix(codecs.BOM_UTF8)
        separator, delimiter = self._separators
        if separator != delimiter:
            block = block.replace(separator, delimiter)
        if self._has_quotes and b'"' in block:
            self._require_certain_quotes(block)
        self.n_lines += block.count(b"\n") + (block[-1:] not in (b"\n", b""))
        if b"\r" in block:
            self.n_lines += block.count(b"\r") - block.count(b"\r\n")
        for part in (b"\n" + block[:2], block, block[-2:] + b"\n"):
            padded = contains_padding(np.frombuffer(part, np.uint8), ord(delimiter))
            self.has_padding |= padded
        return block

    def _require_certain_quotes(self, block: bytes) -> None:
        """Check that marks open after and close before a separator, a line end or another mark."""
        text = np.frombuffer(block + b"\n", np.uint8)  # before the first byte is this line end
        marks = np.flatnonzero(text == ord('"'))
        line_ends = np.flatnonzero((text == ord("\n")) | (text == ord("\r")))
        neighbours = text[np.concatenate([marks[::2] - 1, marks[1::2] + 1])]
        is_within = np.searchsorted(marks, line_ends) % 2 == 1
        if is_within.any() or not np.isin(neighbours, [*b'"\r\n', *self._separators[1]]).all():
            raise UncertainQuotesError
