"""Reading ratings from files and tables of any layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from recsys.columns import MOVIELENS
from recsys.data.catalogue import ItemTable, read_item_table
from recsys.data.interactions import Interactions
from recsys.data.layouts import Schema, default_quarantine_path, detect_layout, find_files
from recsys.data.readers import read_files, read_frame
from recsys.data.tables import RawTable
from recsys.data.validation import Checks, ReportCallback, RowValidator, RuleContext, warn_on_report


def read_ratings(
    source: str | Path | pd.DataFrame,
    *,
    columns: Mapping[str, str] | None = None,
    layout: str | None = None,
    checks: Checks = Checks(),
    quarantine_path: str | Path | None = None,
    on_report: ReportCallback = warn_on_report,
) -> Interactions:
    """Read interactions from a folder, a file, an archive or a DataFrame.

    Invalid rows are handled as `checks` say and are never dropped silently: rows that are left
    out are written to a file with their line and the reason.

    Args:
        source: A folder, a file or a zip archive with text or Parquet, where `.gz` files are
            decompressed; or a DataFrame. MovieLens' `ratings.csv`, `ratings.dat` and `u.data` are
            recognised by name, with `movies.csv`, `movies.dat` or `u.item` next to them; so are
            `.csv`, `.tsv` and `.parquet` with a header, `.txt` with one `user item` pair per
            line, and folders of part files of one kind, with or without Hive partitions.
        columns: Names in the source of the columns `user_id`, `item_id`, `rating` and
            `timestamp`, such as `{"user_id": "visitor"}`. MovieLens' names are recognised. Rating
            and timestamp are optional; without timestamps, rows must be in chronological order.
        layout: A key of `recsys.data.layouts.LAYOUTS`, if file names do not determine it.
        checks: Policies for invalid rows.
        quarantine_path: Parquet file for the rows left out; by default
            `<name>.quarantine.parquet` next to the source. Rows of a DataFrame are only in the
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
    if isinstance(source, pd.DataFrame):
        opened = _Source("the table", read_frame(source, columns))
    else:
        opened = _open(Path(source), columns, layout)
    path = opened.quarantine_path if quarantine_path is None else Path(quarantine_path)
    return _validate(opened, checks, path, on_report)


@dataclass(frozen=True)
class _Source:
    """A table of ratings and what is known about it."""

    name: str
    table: RawTable
    schema: Schema = Schema()
    item_table: ItemTable | None = None
    quarantine_path: Path | None = None


def _open(path: Path, columns: Mapping[str, str] | None, layout_name: str | None) -> _Source:
    files, file = find_files(path)
    detected = detect_layout(files, file, layout_name)
    layout = detected.layout
    name = files.describe(detected.ratings[0]) if len(detected.ratings) == 1 else str(path)
    table = read_files(files, detected, columns)
    is_movielens = layout.ratings.names is not None or set(table.source_names.values()) <= set(
        MOVIELENS
    )
    schema = layout.schema if is_movielens else Schema()
    item_table = None
    if detected.catalogue is not None:
        item_table = read_item_table(files, detected.catalogue, layout.catalogue)
    return _Source(name, table, schema, item_table, default_quarantine_path(path, detected))


def _validate(
    source: _Source, checks: Checks, path: Path | None, on_report: ReportCallback
) -> Interactions:
    """Validate single rows, sort the valid ones, and validate them together."""
    # numba is slow to import, and most programs that import this module read nothing.
    from recsys.data.encoding import build_interactions, encode, has_later_duplicate

    validator = RowValidator(source.table, checks, source.name)
    validator.quarantine_malformed()
    encoded = encode(source.table)
    context = RuleContext(checks, source.schema, source.item_table)
    mask = validator.apply_rules(encoded, context)
    interactions, positions = build_interactions(encoded, mask, source.item_table)
    duplicate = has_later_duplicate(
        interactions.item_index, interactions.user_offsets, interactions.n_items
    )
    reason = "has a later row of the same user and item"
    if validator.apply_policy("duplicate", positions[duplicate], reason):
        interactions, positions = interactions.filter(~duplicate), positions[~duplicate]
    single = (interactions.history_lengths == 1)[interactions.user_index]
    if validator.apply_policy("single_event", positions[single], "is the only row of its user"):
        interactions = interactions.filter(~single).compact()
    on_report(validator.report(len(interactions), interactions.timestamp is not None, path))
    return interactions
