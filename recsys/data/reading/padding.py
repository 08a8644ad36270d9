"""Numbers that are not written as numbers are: '007' and ' 7' are other ids than '7'."""

from __future__ import annotations

import io
from typing import IO

import numba
import numpy as np
from numpy.typing import NDArray


class PaddingWatch(io.RawIOBase):
    """A file that looks, as it is read, for fields that reading as numbers would change.

    Those are numbers with zeros, blanks or a plus before them, blanks after them, or in base 16.
    Any blank counts, wherever it stands, and so does any letter beyond ASCII, since some are
    blanks: to be suspicious costs time, to overlook one costs an id.
    """

    def __init__(self, stored: IO[bytes], separator: str) -> None:
        super().__init__()
        self.stored, self.separator = stored, ord(separator)
        self.found = False
        self._last = b"\n"

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read, and look at what was read."""
        content = self.stored.read(size)
        # What begins in one piece and ends in the next is looked at in both.
        for piece in (self._last + content[:2], content):
            self.found |= bool(_has_padding(np.frombuffer(piece, np.uint8), self.separator))
        self._last = (self._last + content[-2:])[-2:]
        return content


@numba.njit(cache=True, nogil=True)
def _has_padding(text: NDArray[np.uint8], separator: int) -> bool:
    found = False
    # Without a branch in it, the loop looks at many letters at a time.
    for place in range(len(text) - 2):
        before, letter, after = text[place], text[place + 1], text[place + 2]
        begins = (before == separator) | (before == 10) | (before == 13) | (before == 34)
        digit = (after >= 48) & (after <= 57)
        zeros = (letter == 48) & (digit | (after == 120) | (after == 88))  # 0x1F is a number, too
        signs = (letter == 43) | ((letter == 45) & (after == 48))
        blank = (letter <= 32) & (letter != 10) & (letter != 13) & (letter != separator)
        found |= (begins & (zeros | signs)) | blank | (letter >= 127)
    return found
