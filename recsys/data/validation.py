"""Validation of ratings: the rules, the policies for rows that break them, and the report.

To add a rule for single rows, add a `Policy` field to `Checks` and an entry to `_rules`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator

from recsys import columns as names
from recsys.config import Config
from recsys.data.catalogue import ItemTable
from recsys.data.ids import MISSING, EncodedColumn
from recsys.data.interactions import TimestampLike, to_unix
from recsys.data.quarantine import QuarantineFile, rows_left_out
from recsys.data.ratings import find_sentinel, settle_scale
from recsys.data.report import (
    EXPECTED,
    N_EXAMPLES,
    REMEDY,
    Finding,
    LenientPolicy,
    Policy,
    ReadReport,
)
from recsys.data.tables import INVALID, EncodedTable, RawTable
from recsys.data.times import is_near_the_others
from recsys.errors import DataError

_Ints = NDArray[np.int64]
_Mask = NDArray[np.bool_]

_SAMPLE: Final = 1 << 12
_TIMES_FROM: Final = 1e8
"""Ratings above this are probably seconds since 1970."""
_SESSION_REMEDY: Final = 'set columns = {user_id = ""} for histories of sessions without users'
_ID_REMEDY: Final = f"{REMEDY}, or set id_type=keep in checks if ids are text"
_NO_RATINGS_REMEDY: Final = 'set columns = {rating = ""} to use all rows without ratings'
_INSTEAD_OF_KEEP: Final = {
    "malformed_row": REMEDY,
    "missing_id": REMEDY,
    "missing_rating": _NO_RATINGS_REMEDY,
    "bad_rating": _NO_RATINGS_REMEDY,
    "bad_timestamp": "set time_unit or time_format",
    "unknown_event": "give its kind a weight in events",
    "unused_event": "give its kind a weight in events",
    "duplicate": 'set repeats = "allow" to use all rows',
}
"""How to use rows of the checks that have no policy `keep`."""


class Checks(Config):
    """What to do with invalid rows.

    A source that is invalid as a whole (missing column, truncated file, wrong encoding, no rows)
    is always refused.
    """

    malformed_row: Policy = "quarantine"
    """A line with the wrong number of columns."""
    missing_id: Policy = "quarantine"
    """No user, no item or no session."""
    id_type: LenientPolicy = "quarantine"
    """An id that is not an integer, in a column in which at least nine of ten rows have one. If it
    is kept, all ids of the column are text."""
    missing_rating: Policy = "quarantine"
    """An empty rating, or one of `missing_ratings`."""
    bad_rating: Policy = "quarantine"
    """A rating that is not a finite number."""
    sentinel_rating: LenientPolicy = "error"
    """A rating outside of all others that is usual for a missing one, such as -1, 0 or 99, where
    no scale is declared."""
    rating_scale: LenientPolicy = "quarantine"
    """A rating outside `scale`."""
    bad_timestamp: Policy = "quarantine"
    """A timestamp that cannot be parsed."""
    negative_time: LenientPolicy = "quarantine"
    """A timestamp before 1970."""
    future_time: LenientPolicy = "quarantine"
    """A timestamp after `now`."""
    rounded_time: LenientPolicy = "error"
    """A timestamp in scientific notation that has lost digits, such as `1.59388E+09`."""
    outlying_time: LenientPolicy = "quarantine"
    """A timestamp far outside the bulk, such as 1970 among 2020: farther from the quartiles than
    ten years and than three times the distance between them."""
    unknown_item: LenientPolicy = "keep"
    """An item that is missing from the catalogue, if there is one; its title is its id."""
    unknown_event: Policy = "error"
    """A kind of event that is not in `events` and not a usual word, or none."""
    unused_event: Policy = "quarantine"
    """A kind of event that neither counts nor is in the histories."""
    duplicate: Policy = "quarantine"
    """A row with a later row of the same user and item, unless items repeat; the latest is
    used. If histories are sessions, of the same session and item."""
    frequent_user: LenientPolicy = "keep"
    """A row of a user with a twentieth of all rows, and fifty times as many as the median user:
    perhaps one number for all customers without an account."""
    single_event: LenientPolicy = "keep"
    """The only row of its user or session; it counts for popularity only."""
    scale: tuple[float, float] | None = None
    """Lowest and highest rating; by default the scale of the layout, if it has one."""
    now: TimestampLike | None = None
    """Timestamps after it are in the future; by default the time of reading."""
    max_invalid_fraction: float = Field(default=0.5, gt=0, le=1)
    """If more rows are invalid, not counting duplicates and single events, the source is refused:
    its layout or columns are probably wrong."""

    @field_validator(*_INSTEAD_OF_KEEP, mode="before")
    @classmethod
    def _refuse_keep(cls, policy: object, info: ValidationInfo) -> object:
        if isinstance(policy, str) and policy == "keep":
            remedy = _INSTEAD_OF_KEEP[str(info.field_name)]
            raise ValueError(
                f"such a row cannot be used as it is: choose 'error' or 'quarantine', or {remedy}"
            )
        return policy


Rule = tuple[str, str, _Mask, str, str]
"""A column, a check, which rows break it, [n], what is wrong with their values, and what to do
about them."""


def _rules(table: EncodedTable, scale: tuple[float, float] | None, now: int) -> Iterator[Rule]:
    """Judge all values by all rules, in order."""
    for column, ids in table.ids.items():
        has_other = column == names.USER_ID and names.SESSION_ID in table.ids
        remedy = f"{REMEDY}, or {_SESSION_REMEDY}" if has_other else REMEDY
        yield column, "missing_id", ~ids.rows_where(ids.is_id), "is not an id", remedy
    column, rating, times = names.RATING, table.rating, table.timestamp
    if rating is not None:
        remedy = _NO_RATINGS_REMEDY
        yield column, "missing_rating", np.isnan(rating), "is no rating", remedy
        remedy = f"{REMEDY}; list what stands for a missing one in missing_ratings; or {remedy}"
        yield column, "bad_rating", np.isinf(rating), "is not a number", remedy
    if rating is not None and scale is not None:
        low, high = scale
        is_off = np.isfinite(rating) & ~((rating >= low) & (rating <= high))
        message = f"is not a rating from {low:g} to {high:g}"
        yield column, "rating_scale", is_off, message, "set scale="
    elif rating is not None and (found := find_sentinel(rating)) is not None:
        message = f"is outside of the other ratings, from {found.low:g} to {found.high:g}"
        yield column, "sentinel_rating", np.isin(rating, found.numbers), message, found.remedy
    column = names.TIMESTAMP
    if times is not None:
        is_time = times.ticks != INVALID
        remedy = "correct or remove them, or check time_unit and time_format"
        message = f"is not a time as the others are: {times.form or times.description}"
        yield column, "bad_timestamp", ~is_time, message, remedy
        yield column, "negative_time", is_time & (times.ticks < 0), "is before 1970", REMEDY
        if times.rounded is not None:
            remedy = "write times as whole numbers, such as 1593878903 for 1.59388E+09"
            yield column, "rounded_time", times.rounded, "has lost digits", remedy
        yield column, "future_time", times.seconds > now, "is in the future", "set now="
        if (is_near := is_near_the_others(times)) is not None:
            message = "is many years away from the other times"
            yield column, "outlying_time", ~is_near, message, REMEDY
    if (event := table.event) is not None:
        weight, column = event.row_weights, names.EVENT
        yield column, "unknown_event", np.isnan(weight), "is no known kind of event", event.remedy
        is_unused = (weight == 0) & ~event.rows_in_sequence
        remedy = "give their kind a weight in events to use them"
        yield column, "unused_event", is_unused, "does not count and is in no history", remedy


class RowValidator:
    """Applies policies to invalid rows and collects the report.

    A row is judged by all rules; the first that it breaks and whose policy is not `keep` is the
    reason to leave it out.

    Raises:
        DataError: There are no rows, too many invalid ones, or one whose policy is `error`.
    """

    def __init__(
        self,
        table: RawTable,
        source: str,
        checks: Checks,
        usual_scale: tuple[float, float] | None = None,
        item_table: ItemTable | None = None,
    ) -> None:
        self.table, self.source, self.checks, self.item_table = table, source, checks, item_table
        self.scale = checks.scale
        self.usual_scale = usual_scale
        """The scale of the layout, if it has one."""
        self.findings: list[Finding] = []
        self.notes: tuple[str, ...] = ()
        self.reasons: list[tuple[str, str]] = []
        """Check and reason of rows that are left out."""
        self.reason_of_row = np.full(table.n_rows, -1, dtype=np.int8)
        """Index into `reasons`, [n]; -1 for rows that are used."""
        self.n_rows = table.n_rows + sum(len(file.malformed) for file in table.files)
        self.n_invalid = 0
        if not self.n_rows:
            raise DataError(f"{source}: there are no rows in it")
        malformed = [(file.name, *line) for file in table.files for line in file.malformed]
        if malformed:
            examples = [
                f"{name}, line {number}: {text!r} {reason}"
                for name, number, text, reason in malformed[:N_EXAMPLES]
            ]
            self._decide("malformed_row", len(malformed), examples)

    def apply_rules(self, table: EncodedTable) -> tuple[EncodedTable, _Mask | None]:
        """Apply the policies for rows that break a rule, and settle the types of ids.

        Returns:
            The table with ids of these types, and which of its rows to use, [n], or None for all.
        """
        sample = np.empty(0) if table.rating is None else table.rating[:_SAMPLE]
        sample = sample[np.isfinite(sample)]
        if len(sample) and np.median(sample) > _TIMES_FROM:
            raise DataError(f"{self.source}: the ratings look like times; map them with columns=")
        self.scale = settle_scale(table.rating, self.checks.scale, self.usual_scale)
        now = math.ceil(time.time()) if self.checks.now is None else to_unix(self.checks.now)
        self.notes = () if table.event is None else table.event.notes
        for rule in _rules(table, self.scale, now):
            self._apply(*rule)
        ids = {name: self._settle_ids(name, column) for name, column in table.ids.items()}
        if self.item_table is not None:  # it compares ids, so their type must be known
            item_id = ids[names.ITEM_ID]
            is_known = item_id.rows_where(self.item_table.contains(item_id.distinct))
            unknown, remedy = (item_id.codes != MISSING) & ~is_known, "complete the catalogue"
            self._apply(names.ITEM_ID, "unknown_item", unknown, "is not in the catalogue", remedy)
        mask = self.reason_of_row < 0
        if not mask.any():
            largest = max(self.findings, key=lambda finding: finding.n_rows)
            raise DataError(
                f"{self.source}: no row is left: {'; '.join(map(str, self.findings))}; "
                f"{largest.remedy}, or set layout= or columns="
            )
        table = replace(table, ids=ids)
        return table, None if mask.all() else mask

    def _apply(self, column: str, check: str, broken: _Mask, message: str, remedy: str) -> None:
        """Apply the policy of one rule; `keep` also counts rows that other rules leave out."""
        if broken.any():
            is_kept = getattr(self.checks, check) == "keep"
            rows = np.flatnonzero(broken if is_kept else broken & (self.reason_of_row < 0))
            self.apply_policy(check, rows, message, column, remedy)

    def _settle_ids(self, column: str, ids: EncodedColumn) -> EncodedColumn:
        """Give ids the type that those of the used rows have; leave out the others."""
        used = self.reason_of_row < 0
        is_integer, odd, message = ids.decide(used)
        if odd.any():
            rows = np.flatnonzero(np.append(odd, False)[ids.codes] & used)
            if is_integer:
                is_integer = self.apply_policy("id_type", rows, message, column, _ID_REMEDY)
            else:
                examples = self._examples(rows, message, column)
                self.findings.append(Finding("id_type", "keep", len(rows), examples))
        return ids.as_integers() if is_integer else ids

    def apply_policy(
        self, check: str, positions: _Ints, message: str, column: str = "", remedy: str = REMEDY
    ) -> bool:
        """Apply the policy for some rows, and return whether to leave them out."""
        if not len(positions):
            return False
        positions = np.sort(positions)
        examples = self._examples(positions, message, column)
        if self._decide(check, len(positions), examples, remedy) == "keep":
            return False
        self.reason_of_row[positions] = len(self.reasons)
        self.reasons.append((check, f"{column} {message}".strip()))
        return True

    def _examples(self, positions: _Ints, message: str, column: str) -> tuple[str, ...]:
        """Describe the first of some rows: location, value and what is wrong with it."""
        first = positions[:N_EXAMPLES].tolist()
        return tuple(f"{self.table.describe(row, column)} {message}" for row in first)

    def report(
        self, n_used: int, has_timestamps: bool, quarantine: QuarantineFile | None
    ) -> ReadReport:
        """Create the report. Write quarantined rows; without any, remove their file."""
        quarantined = rows_left_out(self.table, self.reason_of_row, self.reasons)
        if quarantine is not None:
            quarantine.write(quarantined)
        return ReadReport(
            source=self.source,
            n_rows=self.n_rows,
            n_used=n_used,
            findings=tuple(self.findings),
            notes=self.notes,
            has_timestamps=has_timestamps,
            quarantined_table=quarantined,
            quarantine_path=quarantine.path if quarantine and len(quarantined) else None,
        )

    def _decide(
        self, check: str, n: int, examples: Sequence[str], remedy: str = REMEDY
    ) -> LenientPolicy:
        """Add a finding and return its policy, unless it is an error."""
        first = examples[0]
        policy: LenientPolicy = getattr(self.checks, check)
        rows = f"({check}, {n:,} such row{'' if n == 1 else 's'})"
        if policy == "error":
            raise DataError(f"{first} {rows}; {remedy}, or set {check}=quarantine in checks")
        self.findings.append(Finding(check, policy, n, tuple(examples), remedy))
        if policy == "quarantine" and check not in EXPECTED:
            self.n_invalid += n
            fraction = self.n_invalid / self.n_rows
            if fraction > self.checks.max_invalid_fraction:
                raise DataError(
                    f"{self.source}: {fraction:.0%} of the rows are invalid. {first} {rows}; "
                    f"{remedy}, or set layout= or columns="
                )
        return policy
