"""Ratings as their source writes them, and where each row stands in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recsys import columns as names
from recsys.errors import DataError

KNOWN = (names.USER_ID, names.ITEM_ID, names.RATING, names.TIMESTAMP)
"""The columns that are read, the others are left alone."""

REQUIRED = (names.USER_ID, names.ITEM_ID)


@dataclass(frozen=True)
class Malformed:
    """A line of text that could not be split into the columns that are due."""

    line: int
    text: str
    reason: str


@dataclass(frozen=True)
class Part:
    """One file of ratings, or a table in memory."""

    name: str
    """What to call it in messages."""
    n_rows: int
    lines_of: Callable[[NDArray[np.int64]], NDArray[np.int64]] = lambda positions: positions
    """The lines at which rows stand, by their positions in the part."""
    unit: str = "row"
    """`line`, counted from one, in text; `row`, counted from zero, in tables."""
    malformed: Sequence[Malformed] = ()
    """Lines that are not among the rows."""


@dataclass(frozen=True)
class RawRatings:
    """Ratings before anything is understood or checked."""

    columns: Mapping[str, pa.ChunkedArray]
    """Each column by our name for it, [n]: of any type that the source can hold."""
    parts: Sequence[Part]
    called: Mapping[str, str]
    """What the source calls each of them."""
    typed: bool
    """Whether the source knows text from numbers; text files do not."""

    @property
    def n_rows(self) -> int:
        """Number of rows, the malformed not included."""
        return sum(part.n_rows for part in self.parts)

    def places(self, positions: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
        """The files and the lines of the rows at these positions, which ascend."""
        files: list[str] = []
        lines = [np.empty(0, dtype=np.int64)]
        begin = 0
        for part in self.parts:
            within = positions[(positions >= begin) & (positions < begin + part.n_rows)]
            if len(within):
                files += [part.name] * len(within)
                lines.append(part.lines_of(within - begin))
            begin += part.n_rows
        return files, np.concatenate(lines)

    def place(self, position: int) -> str:
        """Where the row at a position stands, for messages."""
        (file,), (line,) = self.places(np.array([position]))
        return f"{file}, {self.parts[0].unit} {line}"

    def value(self, name: str, position: int) -> Any:
        """What stands in a column at a position, as Python knows it; None for nothing."""
        return self.columns[name][position].as_py()

    def text(self, name: str, positions: NDArray[np.int64]) -> pd.Series[Any]:
        """What stands in a column at these positions, as text; None for nothing."""
        taken = self.columns[name].unify_dictionaries().take(pa.array(positions))
        text = [None if value is None else str(value) for value in taken.to_pylist()]
        return pd.Series(text, dtype=object)


def join(parts: Sequence[RawRatings]) -> RawRatings:
    """One after another.

    Raises:
        DataError: they do not have the same columns.
    """
    first, *others = parts
    for other in others:
        if set(other.columns) != set(first.columns):
            raise DataError(
                f"{other.parts[0].name}: has {_listed(other.columns)}, but "
                f"{first.parts[0].name} has {_listed(first.columns)}; parts of one log have the "
                "same columns"
            )
    if not others:
        return first
    joined = {
        name: pa.chunked_array(
            [c for part in _alike([part.columns[name] for part in parts]) for c in part.chunks]
        )
        for name in first.columns
    }
    return RawRatings(joined, [p for one in parts for p in one.parts], first.called, first.typed)


def _alike(columns: list[pa.ChunkedArray]) -> list[pa.ChunkedArray]:
    """Columns of one type: where one part needed text, so do all."""
    types = {column.type for column in columns}
    if len(types) == 1:
        return columns
    return [column.cast(pa.string()) for column in columns]


def _listed(columns: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, columns))


def choose_columns(
    there: Sequence[str], columns: Mapping[str, str] | None, source: str
) -> dict[str, int]:
    """Find our columns among those of a source.

    Args:
        there: what the source calls its columns, in order.
        columns: what the user says that it calls ours; MovieLens' own names are known.
        source: its name, for messages.

    Returns:
        The position of each of our columns that is there.

    Raises:
        DataError: a column is missing, or there are several for one of ours.
    """
    columns = columns or {}
    unknown = sorted(set(columns) - set(KNOWN))
    if unknown:
        raise DataError(
            f"columns names {', '.join(map(repr, unknown))}; it can name {', '.join(KNOWN)}"
        )
    for wanted, theirs in columns.items():
        if theirs not in there:
            raise DataError(
                f"{source}: no column {theirs!r}, which is to be {wanted}, among {_named(there)}"
            )
    ours = {theirs: name for theirs, name in names.MOVIELENS.items() if name in KNOWN}
    ours = {theirs: name for theirs, name in ours.items() if name not in columns}
    ours |= {name: name for name in KNOWN if name not in columns}
    ours |= {theirs: name for name, theirs in columns.items()}
    found: dict[str, int] = {}
    for position, theirs in enumerate(there):
        if (name := ours.get(theirs)) is None:
            continue
        if name in found:
            raise DataError(
                f"{source}: more than one column {name!r} "
                "(userId counts as user_id, and so on); drop the others"
            )
        found[name] = position
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        raise DataError(
            f"{source}: no column {', '.join(map(repr, missing))} among {_named(there)}; "
            "name the columns user_id, item_id, rating, timestamp (or as MovieLens does), or say "
            "what they are called with columns="
        )
    return found


def _named(there: Sequence[str]) -> str:
    return ", ".join(map(repr, there)) or "none at all"
