"""Reading ratings from files and tables of any layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys import columns as names
from recsys.arguments import require, to_path
from recsys.data.arrow import ArrowStream, read_table
from recsys.data.detection import DetectedLayout, detect_layout
from recsys.data.interactions import Interactions
from recsys.data.layouts import LAYOUTS
from recsys.data.options import Histories, ReadOptions, Repeats, TimeUnit
from recsys.data.profile import profile_log
from recsys.data.quarantine import QuarantineFile, quarantine_file
from recsys.data.readers import read_files, read_item_table
from recsys.data.report import REMEDY, ReportCallback, warn_on_report
from recsys.data.tables import drop_other_events
from recsys.data.validation import Checks, RowValidator
from recsys.errors import DataError

_MIN_REPEATED: Final = 0.1
"""Share of repeated rows from which data without ratings is taken to repeat items."""

_REPEATS_REMEDY: Final = 'set repeats = "allow" if users come back to items, as to songs'


_FREQUENT_SHARE: Final = 0.05
_FREQUENT: Final = 50
"""A user with this share of the rows, and this many times as many as the median user, may be one
number for many people."""

_FREQUENT_REMEDY: Final = (
    "set frequent_user=quarantine in checks if it stands for many people, such as all customers "
    "without an account"
)


def read_ratings(
    source: str | Path | pd.DataFrame | ArrowStream,
    *,
    columns: Mapping[str, str] | Sequence[str] | None = None,
    layout: str | None = None,
    files: str | Sequence[str] | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    time_unit: TimeUnit | None = None,
    time_format: str | None = None,
    repeats: Repeats = "auto",
    missing_ratings: Sequence[float | str] = (),
    events: Mapping[str, float] | None = None,
    sequence_events: Sequence[str] = (),
    session_gap: str | None = None,
    histories: Histories = "auto",
    checks: Checks = Checks(),
    quarantine_path: str | Path | None = None,
    on_report: ReportCallback = warn_on_report,
) -> Interactions:
    """Read interactions from a folder, a file, an archive or a table in memory.

    Invalid rows are handled as `checks` say and are never dropped silently: rows that are left
    out are written to a file with their line and the reason.

    Args:
        source: A folder, a file or a zip archive with text or Parquet, where `.gz` files are
            decompressed; or a pandas DataFrame, or a table of any library that supports Arrow, such
            as polars, DuckDB or pyarrow. MovieLens' `ratings.csv`, `ratings.dat` and `u.data` are
            recognised by name; so are `.csv`, `.tsv`, `.jsonl` and `.parquet`, `.txt` with one
            `user item` pair per line, and folders of part files of one kind, with or without Hive
            partitions. Titles are read from `items.csv` or `movies.csv` next to them, or from
            MovieLens' `movies.dat` and `u.item`; they are not read from the log itself, nor from a
            table. Items without a title are shown by their ids.
        columns: Names in the source of the columns `user_id`, `item_id`, `rating`, `timestamp`,
            `event` and `session_id`, such as `{"user_id": "visitor"}`. Names of common data sets
            are recognised. Only items and users, or items and sessions, are required; without
            timestamps, rows must be in chronological order. For files without a header, the names
            of all columns in order.
        layout: A key of `recsys.data.layouts.LAYOUTS`, if file names do not determine it.
        files: Name or pattern of the files with ratings in a folder or archive, such as
            `20*/ratings.csv`, or a list of them; one that begins with `!` leaves out what it
            matches. `*.csv` matches no item table.
        separator: Separator of the columns in text files, if it is not detected.
        encoding: Encoding of text files, if it is not detected.
        time_unit: Unit of numeric timestamps, if it is not detected; see `TimeUnit`.
        time_format: Format of timestamps that are text, as of `strptime`.
        repeats: Whether a user may have an item more than once: `allow` keeps all rows, `exclude`
            the latest of each user and item; `auto` allows it in data without ratings in which a
            tenth of the rows or more are repeats.
        missing_ratings: Numbers or text that stand for a missing rating, such as `[-1]`.
        events: How much each kind of event counts for the co-occurrences, such as
            `{"view": 0.1, "cart": 0.5, "purchase": 1}`; usual words are known.
        sequence_events: The kinds of events that form the histories; by default views if there
            are any, else all that count.
        session_gap: Time without interactions after which a session of a user ends, such as
            `30min`, where there is no column of sessions.
        histories: What a history is: the interactions of a `session`, or all of a `user`; `auto`
            takes sessions where the log has them.
        checks: Policies for invalid rows.
        quarantine_path: Parquet file for the rows left out; by default
            `<name>.quarantine.parquet` next to the source. Rows of a table are only in the
            report unless a file is given.
        on_report: Called with the report; by default it issues a `DataWarning` if rows were left
            out or their order was assumed.

    Raises:
        DataError: The source does not exist or cannot be used, or a row breaks a rule whose
            policy is `error`.

    Example:
        >>> table = pd.DataFrame({"visitor": ["ann", "ann", "bob"], "item_id": [7, 3, 7]})
        >>> ratings = read_ratings(table, columns={"user_id": "visitor"}, on_report=print)
        the table: 3 of 3 rows are used; single_event: 1 row kept (first: the table, row 2 is \
the only row of its user); no timestamps: rows are assumed to be in chronological order
        >>> ratings.n_users, ratings.n_items, ratings.items.ids[ratings.history(0)].tolist()
        (2, 2, [7, 3])
    """
    # numba is slow to import, and most programs that import this module read nothing.
    from recsys.data.encoding import build_interactions, encode, has_later_duplicate

    options = ReadOptions(
        columns={} if columns is None else columns,
        layout=layout,
        files=files,
        separator=separator,
        encoding=encoding,
        time_unit=time_unit,
        time_format=time_format,
        repeats=repeats,
        missing_ratings=missing_ratings,
        events={} if events is None else events,
        sequence_events=sequence_events,
        session_gap=session_gap,
        histories=histories,
    )
    require(Checks, checks=checks)
    require(Callable, on_report=on_report)
    quarantine: QuarantineFile | None = None
    if quarantine_path is not None:
        quarantine_path = to_path(quarantine_path, DataError)
    if isinstance(source, (str, PathLike)):
        path = to_path(source, DataError)
        detected = detect_layout(path, options)
        quarantine = quarantine_file(path, detected, quarantine_path)
        quarantine.check()
        validator = _open(path, detected, options, checks)
    else:
        if quarantine_path:
            quarantine = QuarantineFile(Path(quarantine_path))
            quarantine.check()
        validator = RowValidator(
            drop_other_events(read_table(source, options), options), "the table", checks
        )
    # Validate single rows, sort the valid ones, and validate them together.
    encoded = encode(validator.table, options)
    encoded, mask = validator.apply_rules(encoded)
    log, positions = build_interactions(
        encoded, mask, validator.item_table, validator.scale, options
    )
    frequent, reason = find_frequent_user(log)
    remedy = _FREQUENT_REMEDY if validator.checks.frequent_user == "keep" else REMEDY
    if validator.apply_policy("frequent_user", positions[frequent], reason, names.USER_ID, remedy):
        log, positions = log.filter(~frequent).compact(), positions[~frequent]
    forms_history = np.ones(len(log), np.bool_) if log.in_sequence is None else log.in_sequence
    duplicate = has_later_duplicate(log.item_index, log.user_offsets, log.n_items, forms_history)
    repeated = float(duplicate[forms_history].mean()) if forms_history.any() else 0.0
    reason = f"has a later row of the same {log.histories} and item"
    remedy = _REPEATS_REMEDY if options.repeats == "auto" else REMEDY
    if allows_repeats(options.repeats, log, repeated):
        log = replace(log, repeats=True)
    elif validator.apply_policy("duplicate", positions[duplicate], reason, remedy=remedy):
        log = mark_returns(keep_largest_weights(log), duplicate & forms_history)
        log, positions = log.filter(~duplicate), positions[~duplicate]
    single = (log.history_lengths == 1)[log.user_index]
    reason = f"is the only row of its {log.histories}"
    if validator.apply_policy("single_event", positions[single], reason):
        log, positions = log.filter(~single).compact(), positions[~single]
    table = replace(validator.table, columns={})  # they would occupy memory
    report = validator.report(len(log), log.timestamp is not None, quarantine)
    on_report(
        replace(
            report,
            make_profile=partial(
                profile_log, table, encoded.timestamp, encoded.event, log, positions, repeated
            ),
        )
    )
    return log


def find_frequent_user(log: Interactions) -> tuple[NDArray[np.bool_], str]:
    """Mark the rows of a user who may stand for many people, and say why; usually there is none."""
    counts = log.history_lengths
    n, user = int(counts.max(initial=0)), int(counts.argmax()) if len(counts) else 0
    share = n / max(len(log), 1)
    if log.histories != "user" or share < _FREQUENT_SHARE or n < _FREQUENT * np.median(counts):
        return np.zeros(len(log), np.bool_), ""
    reason = f"has {share:.0%} of the rows, {n:,}; the median user has {np.median(counts):,.0f}"
    return log.user_index == user, reason


def keep_largest_weights(log: Interactions) -> Interactions:
    """Give each row the largest weight that its user has given the item so far.

    The latest row of a user and item then stands for all of them.
    """
    if log.weight is None:
        return log
    weight = pd.Series(log.weight).groupby(log.pairs(), sort=False).cummax()
    return replace(log, weight=weight.to_numpy(np.float32))


def mark_returns(log: Interactions, duplicate: NDArray[np.bool_]) -> Interactions:
    """Mark the rows of pairs of user and item that have a duplicate; of ratings, none.

    A later rating corrects the earlier one.
    """
    if log.rating is not None or not duplicate.any():
        return log
    pairs = log.pairs()
    return replace(log, is_return=np.isin(pairs, pairs[duplicate]))


def allows_repeats(repeats: Repeats, log: Interactions, repeated: float) -> bool:
    """Whether the share of rows with a later one of the same user and item stays."""
    if repeats != "auto":
        return repeats == "allow"
    return log.rating is None and repeated >= _MIN_REPEATED


def _open(
    path: Path, detected: DetectedLayout, options: ReadOptions, checks: Checks
) -> RowValidator:
    """Read files; return what validates their rows."""
    files, layout = detected.files, LAYOUTS[detected.name]
    name = files.describe(detected.ratings[0]) if len(detected.ratings) == 1 else str(path)
    table = drop_other_events(read_files(detected, options), options)
    item_table = None
    if detected.catalogue is not None:
        item_table = read_item_table(files, detected.catalogue, layout.catalogue, options.encoding)
    is_movielens = set(table.source_names.values()) <= set(names.MOVIELENS)
    has_scale = is_movielens or layout.ratings.names is not None
    return RowValidator(table, name, checks, layout.scale if has_scale else None, item_table)
