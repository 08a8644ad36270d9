"""A stream of text for Arrow: UTF-8, one byte between columns, and watched while it is read."""

from __future__ import annotations

import codecs
import io
from typing import IO

import numpy as np
from numpy.typing import NDArray

from recsys.data.dialect import UNIT_SEPARATOR, Dialect


class UncertainQuotesError(Exception):
    """A quotation mark is not closed on its line, or something follows the one that closes it."""


class Scanner(io.RawIOBase):
    """A file wrapper that converts text and looks for padding and doubtful quotation marks.

    Padding means that fields are not canonical integers, for example `007`, `+7`, `7 ` or `0x7`,
    and would change if they were parsed as integers. Any blank or non-ASCII byte counts, wherever
    it is: a false alarm costs time, a missed one loses an id.

    Raises:
        UncertainQuotesError: While reading, if quotation marks are to be checked. It may be a false
            alarm, never a missed one.
    """

    def __init__(self, content: IO[bytes], dialect: Dialect, check_quotes: bool) -> None:
        super().__init__()
        self.content = content
        separator = dialect.separator.encode()
        self._long_separator = separator if len(separator) > 1 else b""
        self.separator = UNIT_SEPARATOR if self._long_separator else dialect.separator
        self.has_padding = False
        self.n_line_feeds = 0
        self.has_lone_returns = False
        """A pair of carriage return and line feed may count as well if two blocks share it."""
        is_utf8 = dialect.encoding in ("utf-8", "utf-8-sig")
        self._decoder = None if is_utf8 else codecs.getincrementaldecoder(dialect.encoding)()
        self._converts = bool(self._decoder or self._long_separator)
        self._held_back = b""
        self._check_quotes = check_quotes
        self._line = b"\n"  # the beginning of the line that the next block continues
        self._last = b"\n"
        self._around_quotes = np.zeros(256, dtype=np.bool_)
        self._around_quotes[list(b'\r\n"' + self.separator.encode())] = True

    @property
    def has_open_end(self) -> bool:
        """Whether the last line does not end with a line feed."""
        return not self._last.endswith(b"\n")

    def readable(self) -> bool:  # noqa: D102
        return True

    def read(self, size: int = -1) -> bytes:  # noqa: D102
        from recsys.data.encoding import contains_padding  # numba is slow to import

        block = self._convert(size) if self._converts else self.content.read(size)
        if self._check_quotes:
            self._watch_quotes(block)
        self.n_line_feeds += block.count(b"\n")
        if b"\r" in block:
            self.has_lone_returns |= block.count(b"\r") != block.count(b"\r\n")
        # The first scan covers fields that cross the border between two blocks.
        for part in (self._last + block[:2], block):
            padded = contains_padding(np.frombuffer(part, np.uint8), ord(self.separator))
            self.has_padding |= padded
        self._last = (self._last + block[-2:])[-2:]
        return block

    def _convert(self, size: int) -> bytes:
        """Read at most `size` bytes of UTF-8 text with a short separator."""
        # A character may need three times the bytes, and a part of a separator is held back.
        size = size // 4 if self._decoder else size - len(self._long_separator)
        while True:
            raw = self.content.read(max(size, 1))
            text = raw
            if self._decoder is not None:
                text = self._decoder.decode(raw, final=not raw).encode()
            if self._long_separator:
                text = self._held_back + text
                text = text.replace(self._long_separator, self.separator.encode())
                # A part of a separator at the end is completed by the next block.
                lengths = range(len(self._long_separator) - 1, 0, -1) if raw else ()
                n = next((n for n in lengths if text.endswith(self._long_separator[:n])), 0)
                text, self._held_back = text[: len(text) - n], text[len(text) - n :]
            if text or not raw:
                return text

    def _watch_quotes(self, block: bytes) -> None:
        """Check the lines that end in a block."""
        if b'"' in block or b'"' in self._line:
            lines = self._line + (block or b"\n")
            end = max(lines.rfind(b"\n"), lines.rfind(b"\r"))
            self._require_certain(np.frombuffer(lines[: end + 1], np.uint8))
            self._line = lines[end:]
        elif (end := max(block.rfind(b"\n"), block.rfind(b"\r"))) >= 0:
            self._line = block[end:]
        else:
            self._line += block

    def _require_certain(self, text: NDArray[np.uint8]) -> None:
        """Check that marks open after and close before a separator, a line end or another mark."""
        marks = np.flatnonzero(text == ord('"'))
        opening, closing = marks[::2], marks[1::2]
        line_ends = np.flatnonzero((text == ord("\n")) | (text == ord("\r")))
        within_quotes = np.searchsorted(marks, line_ends) % 2 == 1
        is_certain = (
            not within_quotes.any()
            and self._around_quotes[text[opening - 1]].all()
            and self._around_quotes[text[closing + 1]].all()
        )
        if not is_certain:
            raise UncertainQuotesError
