"""Ratings from files and tables of any layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from recsys.columns import MOVIELENS
from recsys.data.interactions import Interactions
from recsys.data.reading.catalogue import Catalogue, read_catalogue
from recsys.data.reading.checks import Checks, OnReport, warn_of
from recsys.data.reading.columnar import read_frame, read_parquet
from recsys.data.reading.delimited import read_delimited
from recsys.data.reading.encode import encode
from recsys.data.reading.files import Files, find_files
from recsys.data.reading.judge import Judge
from recsys.data.reading.layouts import LAYOUTS, Declared, Found, detect, rejected_beside
from recsys.data.reading.raw import RawRatings, join


def read_ratings(
    source: str | Path | pd.DataFrame,
    *,
    columns: Mapping[str, str] | None = None,
    layout: str | None = None,
    checks: Checks = Checks(),
    rejected: str | Path | None = None,
    on_report: OnReport = warn_of,
) -> Interactions:
    """Read who watched what from a folder, a file, an archive or a table.

    Every row that cannot be right is dealt with as `checks` say. None is left out silently:
    those left out are written to a file of their own with their lines and what is wrong.

    Args:
        source: a folder, a file or a zip archive, of text or Parquet, where `.gz` files are
            unpacked as they are read; or a DataFrame. Recognised by their names are MovieLens'
            `ratings.csv`, `ratings.dat` and `u.data`, with the `movies.csv`, `movies.dat` or
            `u.item` beside them; `.csv`, `.tsv` and `.parquet` with a header; `.txt` with one
            `user item` a line; and folders of part files of one kind, partitioned as Hive does
            or not.
        columns: what the source calls a column of ours: `{"user_id": "visitor", …}`. Ours are
            `user_id`, `item_id`, `rating` and `timestamp`; MovieLens' own names are known. The
            last two may be absent: then every row is a watch, and rows are in the order of
            watching.
        layout: one of `recsys.data.reading.layouts.LAYOUTS`, where names do not tell it.
        checks: what to do about rows that cannot be right.
        rejected: the Parquet file for the rows left out; by default `<name>.rejected.parquet`
            beside the source. Those of a DataFrame are only in the report, unless a file is named.
        on_report: called with the account of what was read and what was left out; by default
            it becomes a `DataWarning` where there is something to tell.

    Raises:
        DataError: there is no such file, its content cannot be used, or a row breaks a rule that
            is an error.

    Example:
        >>> log = pd.DataFrame({"visitor": ["ann", "ann", "bob"], "item_id": [7, 3, 7]})
        >>> ratings = read_ratings(log, columns={"user_id": "visitor"}, on_report=print)
        the table: 3 of 3 rows are used; single_event: 1 row kept (first: the table, row 2 is \
the only row of its user); no times: the order of the rows is taken for the order of watching
        >>> ratings.n_users, ratings.n_items, ratings.items.ids[ratings.history(0)].tolist()
        (2, 2, [7, 3])
    """
    if isinstance(source, pd.DataFrame):
        found = _Source("the table", read_frame(source, columns))
    else:
        found = _open(Path(source), columns, layout)
    target = found.rejected if rejected is None else Path(rejected)
    return _understand(found, checks, target, on_report)


@dataclass(frozen=True)
class _Source:
    """Ratings as they are written, and what is known about them."""

    name: str
    raw: RawRatings
    declared: Declared = Declared()
    catalogue: Catalogue | None = None
    rejected: Path | None = None


def _open(path: Path, columns: Mapping[str, str] | None, layout: str | None) -> _Source:
    files, named = find_files(path)
    found = detect(files, named, layout)
    form = LAYOUTS[found.layout]
    name = files.describe(found.ratings[0]) if len(found.ratings) == 1 else str(path)
    raw = _read(files, found, columns)
    as_movielens = form.ratings.names is not None or set(raw.called.values()) <= set(MOVIELENS)
    declared = form.declared if as_movielens else Declared()
    catalogue = None
    if found.catalogue is not None:
        catalogue = read_catalogue(files, found.catalogue, form.catalogue)
    return _Source(name, raw, declared, catalogue, rejected_beside(path, found))


def _read(files: Files, found: Found, columns: Mapping[str, str] | None) -> RawRatings:
    if found.layout == "parquet":
        return read_parquet(files, found.ratings, columns)
    form = LAYOUTS[found.layout].ratings
    return join([read_delimited(files, name, form, columns) for name in found.ratings])


def _understand(
    source: _Source, checks: Checks, rejected: Path | None, on_report: OnReport
) -> Interactions:
    """Check each row by itself, put those that stay in order, check them beside each other."""
    # numba and pandera take a second to import, and most who import this module read nothing.
    from recsys.data.reading.assemble import assemble
    from recsys.data.reading.order import repeated_later
    from recsys.data.reading.rules import broken_rules, rules_for

    judge = Judge(source.raw, checks, source.name)
    judge.set_malformed_aside()
    rows = encode(source.raw)
    rules = rules_for(rows, checks, source.declared, source.catalogue)
    stays = judge.decide_by_rules(rules, broken_rules(rows, rules))
    log, positions = assemble(rows, stays, source.catalogue)
    later = repeated_later(log.item_index, log.user_offsets, log.n_items)
    if judge.decide("duplicate", positions[later], "has a later row of the same user and item"):
        log, positions = log.filter(~later), positions[~later]
    alone = (log.history_lengths == 1)[log.user_index]
    if judge.decide("single_event", positions[alone], "is the only row of its user"):
        log = log.filter(~alone).compact()
    on_report(judge.report(len(log), log.timestamp is not None, rejected))
    return log
