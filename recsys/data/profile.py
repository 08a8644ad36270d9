"""What a log was understood to be: files, columns, ratings, times and three rows, for its owner."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys import columns as names
from recsys.data.events import Events
from recsys.data.interactions import Interactions
from recsys.data.tables import RawTable, Times
from recsys.data.times import format_times

N_EXAMPLES: Final = 3
"""Rows that are shown as they were understood."""

MAX_BARS: Final = 21
"""A histogram of more distinct ratings has bins."""

N_BINS: Final = 10

_MAX_RATIO: Final = 100

_FEW: Final = 0.1
"""A smaller share of positive ratings is perhaps a mistake."""

_JOIN_HINT: Final = "; if a column that is not used has it, join the two"

_DAY: Final = 86_400 * 10**9

_Dict = dict[str, Any]
_Ints = NDArray[np.int64]


@dataclass(frozen=True)
class LogProfile:
    """What a log was understood to be. Figures are those of the rows that are used."""

    n_users: int
    n_items: int
    n_sessions: int | None
    """None if the log has no sessions. In an anonymous log, each has a user of its own."""
    histories: str
    """What a history is: all interactions of a `user`, or those of a `session`."""
    files: list[_Dict]
    """Files that were read in the same way, one after the other: `format`, `n_files`, `n_rows`
    (with malformed lines), and the names of the `first` and `last`."""
    columns: list[_Dict]
    """`name`, `source_name` and `type`: `integers` or `text`, and why, for ids, else `numbers` or
    `times`."""
    unused_columns: list[str]
    ratings: _Dict | None
    """`lowest`, `highest`, `scale`, `positive_from` (unless `min_rating` of the co-occurrence says
    another), `positive_fraction`, and `histogram`, with `lowest`, `highest` and `n_rows` of each
    bar. None if the log has no ratings: every row is positive."""
    times: _Dict | None
    """`unit`, which is how they were understood, `first`, `median` and `last` in ISO 8601,
    `tied_fraction`, the share of rows at the same time as the row before of their user, and
    `whole_days`, whether all are days without a time of day. None if the log has no times: rows are
    in chronological order."""
    events: list[_Dict] | None
    """`kind`, `n_rows`, `n_read` (also rows that are not used), `weight` (how much each counts for
    the co-occurrences) and `in_sequence` (whether they form the histories). None if the log has no
    kinds of events."""
    repeated_fraction: float
    """Share of the valid rows that have a later row of the same user and item."""
    repeats: bool
    """Whether these rows are used, and items may be recommended again."""
    examples: list[_Dict]
    """The first rows that are used: `file`, `unit` (`line` or `row`), `line`, `user_id`, `item_id`,
    `title`, `rating` and `timestamp`. `user_id` is the id of the history."""

    @property
    def size(self) -> dict[str, int]:
        """Numbers of users, items and, if there are any, sessions."""
        size = {"users": self.n_users, "items": self.n_items, "sessions": self.n_sessions}
        return {name: n for name, n in size.items() if n is not None}

    def sections(self) -> dict[str, dict[str, str]]:
        """Properties of columns, ratings and times, for people."""
        columns = {use["name"]: "← {source_name}, {type}".format_map(use) for use in self.columns}
        counts = {names.USER_ID: self.n_users, names.ITEM_ID: self.n_items}
        for name in counts.keys() & columns.keys():
            columns[name] += f", {counts[name]:,} distinct"
        columns["not used"] = ", ".join(self.unused_columns) or "none"
        later = (
            f"{_share(self.repeated_fraction)} a later row of the same {self.histories} and item"
        )
        use = "items may be recommended again" if self.repeats else "the latest is used"
        if self.n_sessions is not None:
            unit = "its session" if self.histories == "session" else "the first of its user"
            columns["sessions"] = f"{self.n_sessions:,}; a history begins with {unit}"
        columns["repeats"] = f"{later}; {use}" if self.repeated_fraction else later
        hint = "; if a column that is not used has them, map it with columns="
        hint = hint if self.unused_columns else ""
        positive = "events say how much a row counts"
        if not self.events:
            positive = "every row is positive"
            hint += "; if one tells sales from returns, map it to event" if hint else ""
        ratings = {"none:": f"{positive}{hint}"}
        if self.ratings:
            ratings = {"range": "{lowest:g} to {highest:g}".format_map(self.ratings)}
            if self.ratings["scale"]:
                ratings["scale"] = "{:g} to {:g}".format(*self.ratings["scale"])
            positive = "from {positive_from:g}: {positive_fraction:.1%} of the rows"
            is_known = self.ratings["positive_from"] is not None
            ratings["positive"] = positive.format_map(self.ratings) if is_known else "all"
            if self.ratings["positive_fraction"] < _FEW:
                ratings["positive"] += "; few: cooccurrence.min_rating says from which rating"
        times = {"none:": f"rows are in chronological order{hint}"}
        if self.times:
            times = {"unit": self.times["unit"]}
            times |= {name: readable(self.times[name]) for name in ("first", "median", "last")}
            times["ties"] = (
                f"{_share(self.times['tied_fraction'])} the time of the user's row before"
            )
            if self.times["whole_days"] and self.times["tied_fraction"]:
                times["days"] = "no row has a time of day: those of a day keep the file's order"
                times["days"] += _JOIN_HINT if self.unused_columns else ""
        events = {
            role["kind"]: "rows: {n_rows:,}".format_map(role)
            + (" of {n_read:,}".format_map(role) if role["n_read"] > role["n_rows"] else "")
            + ", weight: {weight:g}, ".format_map(role)
            + ("in the histories" if role["in_sequence"] else "not in the histories")
            for role in self.events or ()
        }
        sections = {"Columns": columns, "Events": events, "Ratings": ratings, "Times": times}
        return {title: section for title, section in sections.items() if section}

    def describe(self) -> dict[str, str]:
        """Each section in a line."""
        return {
            title.lower(): "; ".join(f"{name} {value}" for name, value in section.items())
            for title, section in self.sections().items()
        }

    def table(self) -> pd.DataFrame:
        """One row per property, for tracking."""
        file, value = "files from {first}", "{n_files} × {format}"
        rows = [(file.format_map(group), value.format_map(group)) for group in self.files]
        rows += self.describe().items()
        rows += [(name, f"{n:,}") for name, n in self.size.items()]
        place, value = "{file}, {unit} {line}", "{user_id}, {title}, {rating}, {timestamp}"
        rows += [(place.format_map(row), value.format_map(row)) for row in self.examples]
        return pd.DataFrame(rows, columns=["property", "value"])


def readable(time: str) -> str:
    """A time of a profile, for people."""
    return time.replace("T", " ").replace("Z", " UTC")


def _share(fraction: float) -> str:
    return f"{fraction:.1%} of the rows have" if fraction else "no row has"


def profile_log(
    source: RawTable,
    times: Times | None,
    events: Events | None,
    log: Interactions,
    positions: _Ints,
    repeated_fraction: float,
) -> LogProfile:
    """Describe what a log was understood to be.

    Args:
        source: The source; its columns are not needed.
        times: Its times, [n_rows].
        events: Its kinds of events, [n_rows].
        log: The interactions.
        positions: The row of the source of each interaction, [n].
        repeated_fraction: Share of the valid rows with a later row of the same user and item.
    """
    return LogProfile(
        n_users=log.n_users if log.sessions is None else len(log.sessions.users),
        n_items=log.n_items,
        n_sessions=None if log.sessions is None else len(log.sessions),
        histories=log.histories,
        files=_group_files(source),
        columns=[
            {"name": name, "source_name": source_name, "type": _describe_type(name, log)}
            for name, source_name in source.source_names.items()
        ],
        unused_columns=list(source.unused),
        ratings=_profile_ratings(log),
        times=None if times is None or not len(log) else _profile_times(log, times, positions),
        events=None if events is None else events.roles(positions),
        repeated_fraction=repeated_fraction,
        repeats=log.repeats,
        examples=_examples(source, times, log, positions),
    )


def _group_files(source: RawTable) -> list[_Dict]:
    groups = [list(files) for _, files in groupby(source.files, key=lambda file: file.format)]
    return [
        {
            "format": files[0].format,
            "n_files": len(files),
            "n_rows": sum(file.n_rows + len(file.malformed) for file in files),
            "first": files[0].name,
            "last": files[-1].name,
        }
        for files in groups
    ]


def _describe_type(name: str, log: Interactions) -> str:
    """The type of a column, and the reason if its ids are text."""
    plain = {names.RATING: "numbers", names.TIMESTAMP: "times", names.SESSION_ID: "ids"}
    plain[names.EVENT] = "kinds of events"
    if name in plain:
        return plain[name]
    users = log.users if log.sessions is None else log.sessions.users
    ids = pa.array((users if name == names.USER_ID else log.items).ids)
    if pa.types.is_integer(ids.type):
        return "integers"
    at = pc.index(pc.match_substring_regex(ids, "^(0|-?[1-9][0-9]{0,17})$"), False).as_py()
    return "text, as in the source" if at < 0 else f"text, such as {ids[at].as_py()!r}"


def _profile_ratings(log: Interactions) -> _Dict | None:
    if log.rating is None or not len(log):
        return None
    counted = pd.Series(log.rating).value_counts().sort_index()
    edges = values = counted.index.to_numpy()
    counts, shift = counted.to_numpy(), 0
    if len(values) > MAX_BARS:
        edges, shift = _bin_edges(values[0], values[-1]), 1
        counts, _ = np.histogram(values, bins=edges, weights=counts)
    shown = [float(str(edge)) for edge in edges]  # 4.3 instead of 4.300000190734863
    least = log.positive_rating
    return {
        "lowest": shown[0],
        "highest": shown[-1],
        "scale": log.scale,
        "positive_from": least,
        "positive_fraction": 1.0 if least is None else float(np.mean(log.rating >= least)),
        "histogram": [
            {"lowest": lowest, "highest": highest, "n_rows": int(n)}
            for lowest, highest, n in zip(shown, shown[shift:], counts, strict=False)
        ],
    }


def _bin_edges(lowest: np.float32, highest: np.float32) -> NDArray[np.float32]:
    """Edges of bins of equal width, or of equal ratio if numbers span orders of magnitude."""
    is_skewed = lowest > 0 and highest > _MAX_RATIO * lowest  # such as counts of plays
    space = np.geomspace if is_skewed else np.linspace
    edges = space(lowest, highest, N_BINS + 1)
    # 2 instead of 2.0000000000000004; the ends stay, so that all numbers are between them.
    edges[1:-1] = [float(f"{edge:.6g}") for edge in edges[1:-1]]
    return edges.astype(np.float32)


def _profile_times(log: Interactions, times: Times, positions: _Ints) -> _Dict:
    seconds = np.quantile(times.seconds[positions], [0, 0.5, 1], method="lower").astype(np.int64)
    is_tied = (np.diff(times.ticks[positions]) == 0) & (np.diff(log.user_index) == 0)
    return {
        "unit": times.description,
        **dict(zip(("first", "median", "last"), _to_iso(seconds * 10**9), strict=True)),
        "tied_fraction": np.count_nonzero(is_tied) / len(log),
        "whole_days": not (times.ticks[positions] % _DAY).any(),
    }


def _to_iso(ticks: _Ints) -> list[str]:
    return [f"{time}Z" for time in format_times(ticks)]


def _examples(
    source: RawTable, times: Times | None, log: Interactions, positions: _Ints
) -> list[_Dict]:
    """The first rows of the source that are used."""
    n = min(N_EXAMPLES, len(log))
    rows = np.argpartition(positions, np.arange(n))[:n]
    files, lines = source.locations(positions[rows])
    items = log.item_index[rows]
    nothing = [None] * n
    columns = {
        "file": files,
        "unit": [source.files[0].unit] * n,
        "line": lines.tolist(),
        "user_id": log.users.ids[log.user_index[rows]].tolist(),
        "item_id": log.items.ids[items].tolist(),
        "title": [str(title) for title in log.catalogue[names.TITLE].iloc[items]],
        "rating": nothing if log.rating is None else [float(str(r)) for r in log.rating[rows]],
        "timestamp": nothing if times is None else _to_iso(times.ticks[positions[rows]]),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
