"""What a log was understood to be: files, columns, ratings, times and three rows, for its owner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys import columns as names
from recsys.data.interactions import Interactions
from recsys.data.tables import RawTable, Times
from recsys.vocabulary import Vocabulary

N_EXAMPLES: Final = 3
"""Rows that are shown as they were understood."""

MAX_BARS: Final = 21
"""A histogram of more distinct ratings has bins."""

N_BINS: Final = 10

_MAX_RATIO: Final = 100

_Ints = NDArray[np.int64]


@dataclass(frozen=True)
class FileGroup:
    """Files that were read in the same way, one after the other."""

    format: str
    n_files: int
    n_rows: int
    """Rows in the files, including malformed lines."""
    first: str
    last: str


@dataclass(frozen=True)
class ColumnUse:
    """What a column was understood to be."""

    name: str
    source_name: str
    type: str
    """`integers` or `text` for ids, `numbers` for ratings, `times`."""
    reason: str = ""
    """Why ids are text."""


@dataclass(frozen=True)
class Bar:
    """The number of rows whose rating is in a range."""

    lowest: float
    highest: float
    n_rows: int


@dataclass(frozen=True)
class RatingProfile:
    """The ratings."""

    lowest: float
    highest: float
    scale: tuple[float, float] | None
    """Lowest and highest rating of the scale: declared, of the layout, or found."""
    positive_from: float | None
    """Lowest positive rating, unless `min_rating` of the co-occurrence says another."""
    positive_fraction: float
    histogram: tuple[Bar, ...]
    """Up to 21 distinct ratings have a bar each, more are in ten bins of equal width, or of equal
    ratio if the highest is over a hundred times the lowest."""


@dataclass(frozen=True)
class TimeProfile:
    """The times, in ISO 8601."""

    unit: str
    """How they were understood."""
    first: str
    median: str
    last: str
    tied_fraction: float
    """Share of rows at the same time, as the source gives it, as the row before of their user."""


@dataclass(frozen=True)
class ExampleRow:
    """One row as it was understood."""

    file: str
    unit: str
    """`line` or `row`."""
    line: int
    user_id: int | str
    item_id: int | str
    title: str
    rating: float | None
    timestamp: str | None


@dataclass(frozen=True)
class LogProfile:
    """What a log was understood to be. Figures are those of the rows that are used."""

    n_users: int
    n_items: int
    files: tuple[FileGroup, ...]
    """In the order in which they were read."""
    columns: tuple[ColumnUse, ...]
    unused_columns: tuple[str, ...]
    ratings: RatingProfile | None
    """None if the log has no ratings: every row is positive."""
    times: TimeProfile | None
    """None if the log has no times: rows are in chronological order."""
    repeated_fraction: float
    """Share of the valid rows that have a later row of the same user and item."""
    repeats: bool
    """Whether these rows are used, and items may be recommended again."""
    examples: tuple[ExampleRow, ...]
    """The first rows of the source that are used."""

    def lines(self) -> list[str]:
        """Describe columns, ratings and times in a line each."""
        uses = [f"{use.name} ← {use.source_name} ({use.type})" for use in self.columns]
        unused = f"; not used: {', '.join(self.unused_columns)}" if self.unused_columns else ""
        ratings, times = "none, every row is positive", "none, rows are in chronological order"
        if self.ratings is not None:
            ratings = (
                f"{self.ratings.lowest:g} to {self.ratings.highest:g}; "
                f"{self.ratings.positive_fraction:.1%} are positive"
            )
            if self.ratings.positive_from is not None:
                ratings += f" (at least {self.ratings.positive_from:g}, unless min_rating is set)"
        if (time := self.times) is not None:
            times = f"{time.first} to {time.last}, from {time.unit}; {time.tied_fraction:.1%} tied"
        repeats = "allowed" if self.repeats else "excluded"
        return [
            f"columns: {', '.join(uses)}{unused}",
            f"ratings: {ratings}",
            f"times: {times}",
            f"repeats: {repeats}, {self.repeated_fraction:.1%} of the rows",
        ]

    def table(self) -> pd.DataFrame:
        """One row per property, for tracking."""
        rows = [
            (f"files from {file.first}", f"{file.n_files} × {file.format}") for file in self.files
        ]
        rows += [tuple(line.split(": ", 1)) for line in self.lines()]  # type: ignore[misc]
        rows += [("users", f"{self.n_users:,}"), ("items", f"{self.n_items:,}")]
        for row in self.examples:
            values = row.user_id, row.title, row.rating, row.timestamp
            location = f"{row.file}, {row.unit} {row.line}"
            rows.append((location, ", ".join(str(value) for value in values if value is not None)))
        return pd.DataFrame(rows, columns=["property", "value"])


def prepare_profile(
    source: RawTable,
    times: Times | None,
    log: Interactions,
    positions: _Ints,
    repeated_fraction: float,
) -> Callable[[], LogProfile]:
    """Return a function that computes the profile of a log, which takes time and is rarely needed.

    Args:
        source: The source.
        times: Its times, [n_rows].
        log: The interactions.
        positions: The row of the source of each interaction, [n].
        repeated_fraction: Share of the valid rows with a later row of the same user and item.
    """
    first = _smallest(positions)
    if times is not None:
        n_tied = _count_ties(log, times, positions)
        shown = replace(times, ticks=times.ticks[positions[first]])
    return partial(
        _profile,
        replace(source, columns={}),  # the columns would occupy memory
        log,
        first,
        positions[first],
        None if times is None else (shown, n_tied / max(len(log), 1)),
        repeated_fraction,
    )


def _smallest(positions: _Ints) -> _Ints:
    """Indices of the smallest of some distinct positions, in order of position."""
    limit, n = 1024, min(N_EXAMPLES, len(positions))
    while len(found := np.flatnonzero(positions < limit)) < n:  # faster than a partition of all
        limit *= 32
    return found[np.argsort(positions[found])][:n]


def _count_ties(log: Interactions, times: Times, positions: _Ints) -> int:
    """Number of rows at the same time as the row before of the same user."""
    tied = (np.diff(log.require_timestamps("ties")) == 0) & (np.diff(log.user_index) == 0)
    if times.per_second == 1:
        return int(np.count_nonzero(tied))
    before = np.flatnonzero(tied)
    same = times.ticks[positions[before]] == times.ticks[positions[before + 1]]
    return int(np.count_nonzero(same))


def _profile(
    source: RawTable,
    log: Interactions,
    rows: _Ints,
    positions: _Ints,
    times: tuple[Times, float] | None,
    repeated_fraction: float,
) -> LogProfile:
    """Compute a profile, given rows of the log to show, their positions and their times."""
    return LogProfile(
        n_users=log.n_users,
        n_items=log.n_items,
        files=_group_files(source),
        columns=tuple(
            ColumnUse(name, source_name, *_describe_column(name, log))
            for name, source_name in source.source_names.items()
        ),
        unused_columns=tuple(source.unused),
        ratings=_profile_ratings(log),
        times=None if times is None or not len(log) else _profile_times(log, *times),
        repeated_fraction=repeated_fraction,
        repeats=log.repeats,
        examples=_examples(source, log, rows, positions, times and times[0]),
    )


def _group_files(source: RawTable) -> tuple[FileGroup, ...]:
    groups = []
    for description, members in groupby(source.files, key=lambda file: file.format):
        files = list(members)
        n_rows = sum(file.n_rows + len(file.malformed) for file in files)
        groups.append(FileGroup(description, len(files), n_rows, files[0].name, files[-1].name))
    return tuple(groups)


def _describe_column(name: str, log: Interactions) -> tuple[str, str]:
    """The type of a column, and the reason if its ids are text."""
    if name not in (names.USER_ID, names.ITEM_ID):
        return "numbers" if name == names.RATING else "times", ""
    vocabulary: Vocabulary = log.users if name == names.USER_ID else log.items
    if vocabulary.ids.dtype.kind == "i":
        return "integers", ""
    ids = pa.array(vocabulary.ids, pa.string())
    at = pc.index(pc.match_substring_regex(ids, "^(0|-?[1-9][0-9]{0,17})$"), False).as_py()
    return "text", "as in the source" if at < 0 else f"such as {ids[at].as_py()!r}"


def _profile_ratings(log: Interactions) -> RatingProfile | None:
    if log.rating is None or not len(log):
        return None
    counted = pc.value_counts(pa.array(log.rating))
    values = counted.field("values").to_numpy()
    counts = counted.field("counts").to_numpy()
    least = log.positive_rating
    n_positive = len(log) if least is None else int(counts[values >= least].sum())
    if len(values) <= MAX_BARS:
        by_value = sorted(zip(map(_to_float, values), counts.tolist(), strict=True))
        bars = [Bar(value, value, n) for value, n in by_value]
    else:
        lowest, highest = float(values.min()), float(values.max())
        is_skewed = lowest > 0 and highest > _MAX_RATIO * lowest  # such as counts of plays
        edges = np.linspace(lowest, highest, N_BINS + 1)
        if is_skewed:
            inner = np.geomspace(lowest, highest, N_BINS + 1)[1:-1]
            edges[1:-1] = [
                float(f"{edge:.6g}") for edge in inner
            ]  # 2 instead of 2.0000000000000004
        sums, _ = np.histogram(values, bins=edges, weights=counts)
        low = [float(f"{edge:.6g}") for edge in edges]
        bars = [Bar(*bar) for bar in zip(low, low[1:], sums.astype(int).tolist(), strict=False)]
    return RatingProfile(
        lowest=bars[0].lowest,
        highest=bars[-1].highest,
        scale=log.scale,
        positive_from=least,
        positive_fraction=n_positive / len(log),
        histogram=tuple(bars),
    )


def _to_float(rating: np.float32) -> float:
    """The shortest decimal that is this number: 4.3 instead of 4.300000190734863."""
    return float(str(rating))


def _profile_times(log: Interactions, times: Times, tied_fraction: float) -> TimeProfile:
    seconds = log.require_timestamps("a profile")
    middle = (len(seconds) - 1) // 2
    bounds = (seconds.min(), np.partition(seconds, middle)[middle], seconds.max())
    first, median, last = (_to_iso(value, 1) for value in bounds)
    return TimeProfile(times.description, first, median, last, tied_fraction)


def _to_iso(ticks: np.int64, per_second: int) -> str:
    """Format a time in ISO 8601, in UTC; fractions of a second only if there are some."""
    if ticks % per_second == 0:
        ticks, per_second = ticks // per_second, 1
    unit = {1: "s", 1_000: "ms", 1_000_000: "us", 1_000_000_000: "ns"}[per_second]
    return f"{np.datetime64(int(ticks), unit)}Z"  # type: ignore[call-overload]


def _examples(
    source: RawTable, log: Interactions, rows: _Ints, positions: _Ints, times: Times | None
) -> tuple[ExampleRow, ...]:
    """Some rows of the log; `positions` are those in the source, ascending."""
    examples = []
    for i, (row, file, line) in enumerate(zip(rows, *source.locations(positions), strict=True)):
        item = int(log.item_index[row])
        examples.append(
            ExampleRow(
                file=file,
                unit=source.files[0].unit,
                line=int(line),
                user_id=_to_python(log.users.ids[log.user_index[row]]),
                item_id=_to_python(log.items.ids[item]),
                title=str(log.catalogue[names.TITLE].iloc[item]),
                rating=None if log.rating is None else _to_float(log.rating[row]),
                timestamp=None if times is None else _to_iso(times.ticks[i], times.per_second),
            )
        )
    return tuple(examples)


def _to_python(value: np.int64 | str) -> int | str:
    return value if isinstance(value, str) else int(value)
