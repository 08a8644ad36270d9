"""Tables of ratings before they become `Interactions`: as the source has them, and as numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys import columns as names
from recsys.data.events import Events, why_no_kinds
from recsys.data.ids import EncodedColumn
from recsys.data.options import ReadOptions
from recsys.errors import DataError

COLUMNS: Final = (
    names.USER_ID, names.ITEM_ID, names.RATING, names.TIMESTAMP, names.SESSION_ID, names.EVENT
)  # fmt: skip
"""The columns that are read; others are ignored."""

INVALID: Final = np.iinfo(np.int64).min
"""Value of a timestamp that cannot be parsed."""


@dataclass(frozen=True)
class SourceFile:
    """One file of ratings, or a table in memory."""

    name: str
    n_rows: int
    lines_of: Callable[[NDArray[np.int64]], NDArray[np.int64]] = lambda positions: positions
    """Line numbers of rows, given their positions in the file."""
    unit: str = "row"
    """`line`, counted from one, for text; `row`, counted from zero, for tables."""
    malformed: Sequence[tuple[int, str, str]] = ()
    """Lines that are not among the rows: number, text and what is wrong."""
    format: str = ""
    """How it was read, for people: `CSV, separated by ';', Latin-1`."""


@dataclass(frozen=True)
class RawTable:
    """The columns of a source before they are parsed or validated."""

    columns: Mapping[str, pa.ChunkedArray]
    """Columns by the names in `COLUMNS`, [n], of any Arrow type."""
    files: Sequence[SourceFile]
    source_names: Mapping[str, str]
    """Name of each column in the source."""
    has_types: bool
    """Whether the source distinguishes text from numbers; text files do not."""
    unused: Sequence[str] = ()
    """Names of the columns of the source that are not read."""

    @property
    def n_rows(self) -> int:
        """Number of rows, without malformed lines."""
        return sum(file.n_rows for file in self.files)

    def locations(self, positions: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
        """File names and line numbers of the rows at some ascending positions."""
        files, lines = self._locate(positions)
        return [self.files[file].name for file in files], lines

    def where(self, ours: str) -> str:
        """Location of one of our columns, for messages."""
        return f"{self.files[0].name}, column {self.source_names[ours]!r}"

    def describe(self, position: int, column: str = "") -> str:
        """Location of a row, and its value in a column, for messages."""
        (file,), (line,) = self.locations(np.array([position]))
        location = f"{file}, {self.files[0].unit} {line}"
        if not column:
            return location
        value = to_python(self.columns[column][position])
        return f"{location}, column {column!r}: {'(empty)' if value is None else repr(value)}"

    def rows(self, positions: NDArray[np.int64]) -> pa.Table:
        """The rows at some ascending positions: `file`, `line` and their values."""
        files, lines = self._locate(positions)
        mask = np.zeros(self.n_rows, dtype=np.bool_)
        mask[positions] = True
        paths = pa.array([file.name for file in self.files], pa.string())
        columns = {"file": pa.DictionaryArray.from_arrays(files, paths), "line": lines}
        for name, column in self.columns.items():
            rows = column.filter(mask)
            # A dictionary would also have the values of the other rows.
            is_encoded = pa.types.is_dictionary(rows.type)
            columns[name] = rows.cast(rows.type.value_type) if is_encoded else rows
        return pa.table(columns)

    def _locate(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Index in `files` and line number of the rows at some ascending positions."""
        ends = np.cumsum([file.n_rows for file in self.files])
        bounds = np.searchsorted(positions, ends)
        files = np.repeat(np.arange(len(ends), dtype=np.int32), np.diff(bounds, prepend=0))
        lines = np.empty(len(positions), dtype=np.int64)
        first = 0
        for file, last, end in zip(self.files, bounds, ends, strict=True):
            if last > first:
                lines[first:last] = file.lines_of(positions[first:last] - (end - file.n_rows))
            first = last
        return files, lines


def to_python(value: pa.Scalar) -> Any:
    """The value as an object of Python; text for times outside of its years, 1 to 9999."""
    try:
        return value.as_py()
    except OverflowError:
        return f"{value.value} {value.type.unit} since 1970"


# eq=False: comparing arrays element by element gives no single answer.
@dataclass(frozen=True, eq=False)
class Times:
    """Points in time."""

    ticks: NDArray[np.int64]
    """Nanoseconds since 1970, UTC, [n]; `INVALID` if it cannot be parsed."""
    description: str
    """How they were understood, for people: `milliseconds since 1970`."""
    rounded: NDArray[np.bool_] | None = None
    """Which have lost digits in scientific notation, [n]; None if there are none."""
    form: str = ""
    """How they are written, for messages, if the description does not say it."""

    @cached_property
    def seconds(self) -> NDArray[np.int64]:
        """Whole seconds since 1970, rounded down, [n]; `INVALID` stays."""
        return np.where(self.ticks == INVALID, INVALID, self.ticks // 10**9)


@dataclass(frozen=True, eq=False)
class EncodedTable:
    """Ratings as numbers, in the order of the source; None for columns that it does not have."""

    ids: Mapping[str, EncodedColumn]
    """Items with users, sessions or both, by the names of their columns."""
    rating: NDArray[np.float32] | None
    """[n]; NaN if it cannot be parsed."""
    timestamp: Times | None
    event: Events | None = None

    @property
    def is_anonymous(self) -> bool:
        """Whether there are sessions, but no users."""
        return names.USER_ID not in self.ids

    @property
    def user_id(self) -> EncodedColumn:
        """The users; in an anonymous log, every session is one."""
        return self.ids[names.SESSION_ID if self.is_anonymous else names.USER_ID]


def drop_other_events(table: RawTable, options: ReadOptions) -> RawTable:
    """The table without a column that only its name made one of kinds of events.

    Raises:
        DataError: `options` say what kinds of events are for, but no column has any.
    """
    column, name, reason = table.columns.get(names.EVENT), "", ""
    needed = [setting for setting in ("events", "sequence_events") if getattr(options, setting)]
    if column is not None:
        name = table.source_names[names.EVENT]
        reason = why_no_kinds(column, name, options)
        is_mapped = names.EVENT in options.columns
        if not reason or (is_mapped and not pa.types.is_nested(column.type)):
            return table
        needed += ["columns"] if is_mapped else []
    if needed:
        found = f", but column {name!r} {reason}" if reason else ""
        raise DataError(
            f"{table.files[0].name}: {needed[0]} needs a column 'event'{found}; name it with "
            'columns = {event = "..."}'
        )
    rest, source_names = (
        {ours: value for ours, value in values.items() if ours != names.EVENT}
        for values in (table.columns, table.source_names)
    )
    unused = [*table.unused, name] if name else table.unused
    return replace(table, columns=rest, source_names=source_names, unused=unused)


class Selection(NamedTuple):
    """Which columns of a source are read, by our names in the order of `COLUMNS`."""

    positions: dict[str, int]
    source_names: dict[str, str]
    unused: list[str]
    """Names of the columns that are not read."""


def select_columns(available: Sequence[str], options: ReadOptions, source: str) -> Selection:
    """Find the known columns among those of a source.

    Names that data sets use are recognised (see `recsys.columns.match`); `options.columns` maps
    others, or names all columns in order.

    Raises:
        DataError: A required column is missing, or several match the same known column.
    """
    original, mapping = available, {}
    if isinstance(options.columns, tuple):
        available = _named_in_order(available, options.columns, source)
    else:
        mapping = options.columns
    leave_out = "" if options.files is None else ", or leave this file out of files="
    _check_mapping(mapping, available, source, leave_out)
    rest = ["" if name in mapping.values() else name for name in available]
    found = names.match(rest, [name for name in COLUMNS if name not in mapping])
    for name, source_name in mapping.items():
        if source_name:
            found[name] = [i for i, other in enumerate(available) if other == source_name]
    for name, positions in found.items():
        several = [available[position] for position in positions]
        if len(several) > 1:
            is_repeated = len(set(several)) == 1
            choice = (
                "" if is_repeated else f"choose one with columns = {{{name} = {several[0]!r}}}, or "
            )
            raise DataError(
                f"{source}: more than one column {name!r}: {_quoted(several)}; {choice}drop the "
                "others"
            )
        if several[0].endswith("_seq"):
            raise DataError(f"{source}: column {several[0]!r} holds lists, not one {name} a row")
    # An anonymous log has sessions instead of users.
    present = found.keys() | ({names.USER_ID} if names.SESSION_ID in found else set())
    if missing := [name for name in (names.USER_ID, names.ITEM_ID) if name not in present]:
        raise DataError(
            f"{source}: no column {_quoted(missing)} among {_quoted(available)}; name the columns "
            "user_id (or session_id), item_id, rating and timestamp (or as MovieLens does), or map "
            f"them with columns={leave_out}; if the first line is no header, columns = "
            '["user_id", "item_id", ...]'
        )
    chosen: dict[str, int] = {n: found[n][0] for n in COLUMNS if n in found}
    return Selection(
        chosen,
        {name: original[position] for name, position in chosen.items()},
        [n for i, n in enumerate(original) if i not in chosen.values() and n not in ("", "_")],
    )


def _check_mapping(
    mapping: Mapping[str, str], available: Sequence[str], source: str, leave_out: str
) -> None:
    given = [name for name in mapping.values() if name]
    if len(set(given)) < len(given):
        raise DataError(f"columns names a column twice: {_quoted(given)}")
    if unknown := sorted(set(mapping) - set(COLUMNS)):
        raise DataError(
            f"columns has unknown keys {_quoted(unknown)}; the keys are {', '.join(COLUMNS)}"
        )
    for name, source_name in mapping.items():
        if source_name and source_name not in available:
            raise DataError(
                f"{source}: no column {source_name!r} for {name} among {_quoted(available)}; "
                f"correct its name in columns={leave_out}"
            )


def _named_in_order(available: Sequence[str], given: Sequence[str], source: str) -> Sequence[str]:
    """The names given for the columns of a source that has none, or others of equal meaning."""
    if len(given) != len(available):
        raise DataError(
            f"{source}: columns has {len(given)} names, but there are {len(available)} columns: "
            f"{_quoted(available)}; name all of them in order, '_' for one that is not used"
        )
    known = names.match(available, COLUMNS)
    if list(given) != list(available) and known and known != names.match(given, COLUMNS):
        raise DataError(
            f"{source}: columns has a list of names, but the columns already have names: "
            f"{_quoted(available)}; leave columns out, or map single names: "
            'columns = {user_id = "..."}'
        )
    return given


def _quoted(values: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(map(repr, values)) or "none"
