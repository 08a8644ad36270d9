"""Reading ratings from files and tables of any layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from recsys.columns import MOVIELENS
from recsys.data.catalogue import read_item_table
from recsys.data.interactions import Interactions
from recsys.data.layouts import LAYOUTS, default_quarantine_path, detect_layout
from recsys.data.readers import read_files, read_frame
from recsys.data.validation import Checks, ReportCallback, RowValidator, warn_on_report


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
    # numba is slow to import, and most programs that import this module read nothing.
    from recsys.data.encoding import build_interactions, encode, has_later_duplicate

    if isinstance(source, pd.DataFrame):
        default_path, validator = (
            None,
            RowValidator(read_frame(source, columns), "the table", checks),
        )
    else:
        default_path, validator = _open(Path(source), columns, layout, checks)
    # Validate single rows, sort the valid ones, and validate them together.
    encoded = encode(validator.table)
    mask = validator.apply_rules(encoded)
    log, positions = build_interactions(encoded, mask, validator.item_table)
    duplicate = has_later_duplicate(log.item_index, log.user_offsets, log.n_items)
    reason = "has a later row of the same user and item"
    if validator.apply_policy("duplicate", positions[duplicate], reason):
        log, positions = log.filter(~duplicate), positions[~duplicate]
    single = (log.history_lengths == 1)[log.user_index]
    if validator.apply_policy("single_event", positions[single], "is the only row of its user"):
        log = log.filter(~single).compact()
    path = default_path if quarantine_path is None else Path(quarantine_path)
    on_report(validator.report(len(log), log.timestamp is not None, path))
    return log


def _open(
    path: Path, columns: Mapping[str, str] | None, layout_name: str | None, checks: Checks
) -> tuple[Path, RowValidator]:
    """Read files; return the default path for invalid rows, and what validates the others."""
    detected = detect_layout(path, layout_name)
    files, layout = detected.files, LAYOUTS[detected.name]
    name = files.describe(detected.ratings[0]) if len(detected.ratings) == 1 else str(path)
    table = read_files(detected, columns)
    item_table = None
    if detected.catalogue is not None:
        item_table = read_item_table(files, detected.catalogue, layout.catalogue)
    is_movielens = set(table.source_names.values()) <= set(MOVIELENS)
    if layout.ratings.names is None and not is_movielens:
        layout = LAYOUTS["csv"]  # which promises nothing about ids and ratings
    validator = RowValidator(table, name, checks, layout, item_table)
    return default_quarantine_path(path, detected), validator
