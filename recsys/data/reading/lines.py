"""The lines of a text file, looked up when one is to be named."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pyarrow.csv
from numpy.typing import NDArray

from recsys.data.reading.files import Files, open_unpacked
from recsys.data.reading.layouts import Format
from recsys.data.reading.raw import Malformed
from recsys.errors import DataError

UNIT_SEPARATOR = "\x1f"
"""A letter of ASCII that no id and no title holds."""


class Lines:
    """Finds the lines of rows: Arrow counts those that are neither blank nor before the rows."""

    def __init__(self, files: Files, name: str, head: int, odd: NDArray[np.int64]) -> None:
        self.files, self.name, self.head, self.odd = files, name, head, odd

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The lines of the rows at these positions, from one."""
        return step_over(self._blank, step_over(self.odd, positions + self.head + 1))

    def malformed(self, rows: list[pyarrow.csv.InvalidRow], form: Format) -> list[Malformed]:
        """Lines that are no rows, and what is wrong with them."""
        lines = step_over(self._blank, self.odd).tolist()
        return [
            Malformed(
                line,
                row.text.replace(UNIT_SEPARATOR, form.separator),
                f"has {row.actual_columns} columns where {row.expected_columns} are due",
            )
            for line, row in zip(lines, rows, strict=True)
        ]

    @cached_property
    def _blank(self) -> NDArray[np.int64]:
        """The lines of no content after the header. Looked up only when a line is to be named."""
        with open_unpacked(self.files, self.name) as stored:
            blank = [n for n, line in enumerate(stored, start=1) if not line.strip(b"\r\n")]
        return np.array([n for n in blank if n > self.head], dtype=np.int64)


def step_over(gaps: NDArray[np.int64], ordinals: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of the k-th of what is numbered with gaps, both from one.

    Example:
        >>> step_over(np.array([2, 5]), np.array([1, 2, 3, 4])).tolist()
        [1, 3, 4, 6]
    """
    before: NDArray[np.int64] = np.searchsorted(gaps - np.arange(len(gaps)), ordinals, "right")
    return ordinals + before


def refuse_open_quotes(files: Files, name: str) -> None:
    """Look for a quotation mark that is opened on a line and not closed on it.

    Raises:
        DataError: there is one.
    """
    with open_unpacked(files, name) as stored:
        for number, line in enumerate(stored, start=1):
            if line.count(b'"') % 2:
                raise DataError(
                    f"{files.describe(name)}, line {number}: a quotation mark is not closed on "
                    "its line; close or double it, or remove the line break in quotes"
                )


def name_bad_byte(files: Files, name: str, form: Format) -> str:
    """What to say of a file that is not text of its encoding: the first bad byte and its line."""
    with open_unpacked(files, name) as stored:
        for number, line in enumerate(stored, start=1):
            try:
                line.decode(form.encoding)
            except UnicodeDecodeError as error:
                return (
                    f"{files.describe(name)}, line {number}: byte {line[error.start]:#04x} is not "
                    f"{form.encoding} text; save the file in that encoding"
                )
    return f"{files.describe(name)}: is not {form.encoding} text; save it in that encoding"
