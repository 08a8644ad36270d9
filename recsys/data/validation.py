"""Validation of ratings: the rules, the policies for rows that break them, and the report.

To add a rule for single rows, add a `Policy` field to `Checks` and an entry to `RULES`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from recsys import columns as names
from recsys.config import Config, format_validation_error
from recsys.data.catalogue import ItemTable
from recsys.data.ids import MISSING, EncodedColumn
from recsys.data.interactions import TimestampLike, to_unix
from recsys.data.layouts import LAYOUTS, Layout
from recsys.data.quarantine import QuarantineFile, rows_left_out
from recsys.data.ratings import Sentinel, find_sentinel, settle_scale
from recsys.data.report import (
    EXPECTED,
    N_EXAMPLES,
    REMEDY,
    Finding,
    LenientPolicy,
    Policy,
    ReadReport,
)
from recsys.data.tables import INVALID, EncodedTable, RawTable, Times
from recsys.data.times import is_near_the_others
from recsys.errors import ConfigError, DataError

_Ints = NDArray[np.int64]
_Mask = NDArray[np.bool_]


class Checks(Config):
    """What to do with invalid rows.

    A source that is invalid as a whole (missing column, truncated file, wrong encoding, no rows)
    is always refused.
    """

    malformed_row: Policy = "quarantine"
    """A line with the wrong number of columns."""
    missing_id: Policy = "quarantine"
    """No user or no item."""
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
    duplicate: Policy = "quarantine"
    """A row with a later row of the same user and item, unless items repeat; the latest is
    used."""
    single_event: LenientPolicy = "keep"
    """The only row of its user; it counts for popularity only."""
    scale: tuple[float, float] | None = None
    """Lowest and highest rating; by default the scale of the layout, if it has one."""
    now: TimestampLike | None = None
    """Timestamps after it are in the future; by default the time of reading."""
    max_invalid_fraction: float = Field(default=0.5, gt=0, le=1)
    """If more rows are invalid, not counting duplicates and single events, the source is refused:
    its layout or columns are probably wrong."""


def parse_checks(settings: Mapping[str, Any]) -> Checks:
    """Create checks from user input, and raise a `ConfigError` if it is invalid."""
    try:
        return Checks.model_validate(settings)
    except ValidationError as error:
        checks = ", ".join(Checks.model_fields)
        raise ConfigError(f"{format_validation_error(error)}; the checks are {checks}") from error


def _is_in_catalogue(ids: EncodedColumn, validator: RowValidator) -> _Mask | None:
    table = validator.item_table
    if table is None:
        return None
    mask: _Mask = ids.codes == MISSING
    return mask | ids.rows_where(table.contains(ids.distinct))


def _is_on_scale(rating: NDArray[np.float32], validator: RowValidator) -> _Mask | None:
    if validator.scale is None:
        return None
    low, high = validator.scale
    return (rating >= low) & (rating <= high)


def _is_exact(times: Times, validator: RowValidator) -> _Mask | None:  # noqa: ARG001
    return None if times.rounded is None else ~times.rounded


def _is_inside(rating: NDArray[np.float32], validator: RowValidator) -> _Mask | None:
    if validator.scale is not None:
        return None
    validator.sentinel = find_sentinel(rating)
    return None if validator.sentinel is None else rating != validator.sentinel.value


@dataclass(frozen=True)
class Rule:
    """A condition on the values of one column."""

    check: str
    """The field of `Checks` with the policy."""
    column: str
    is_valid: Callable[[Any, RowValidator], _Mask | None]
    """Which rows are valid, [n], given the column of `EncodedTable`; None if it does not apply."""
    message: str
    """What is wrong with a value that is not valid; may refer to `{scale}` and `{sentinel}`."""
    remedy: str = REMEDY


_ID_REMEDY = f"{REMEDY}, or set id_type=keep if ids are text"
_NOT_TIME = "is not a time as the others are"
_OUTLYING = "is many years away from the other times"
_DECLARE = "correct or remove them, set time_unit or time_format"
_WRITE_OUT = "write times as whole numbers, such as 1593878903 for 1.59388E+09"
_OFF_SCALE = "is not a rating from {scale[0]:g} to {scale[1]:g}"
_OUTSIDE = "is outside of the other ratings, from {sentinel.low:g} to {sentinel.high:g}"
_NOT_LISTED = "is not in the catalogue"

RULES: Final = (
    Rule("missing_id", names.USER_ID, lambda ids, _: ids.rows_where(ids.is_id), "is not an id"),
    Rule("missing_id", names.ITEM_ID, lambda ids, _: ids.rows_where(ids.is_id), "is not an id"),
    Rule(
        "missing_rating",
        names.RATING,
        lambda rating, _: ~np.isnan(rating),
        "is no rating",
        "remove the column to use rows without ratings",
    ),
    Rule("bad_rating", names.RATING, lambda rating, _: ~np.isinf(rating), "is not a number"),
    Rule("sentinel_rating", names.RATING, _is_inside, _OUTSIDE, "{sentinel.remedy}"),
    Rule("rating_scale", names.RATING, _is_on_scale, _OFF_SCALE, "set scale="),
    Rule("bad_timestamp", names.TIMESTAMP, lambda t, _: t.ticks != INVALID, _NOT_TIME, _DECLARE),
    Rule("negative_time", names.TIMESTAMP, lambda t, _: t.ticks >= 0, "is before 1970"),
    Rule("rounded_time", names.TIMESTAMP, _is_exact, "has lost digits", _WRITE_OUT),
    Rule(
        "future_time",
        names.TIMESTAMP,
        lambda t, v: t.seconds <= v.now,
        "is in the future",
        "set now=",
    ),
    Rule("outlying_time", names.TIMESTAMP, lambda t, _: is_near_the_others(t), _OUTLYING),
)
"""Rules for values of any type, in order. A row is judged by all rules; the first that it breaks
and whose policy is not `keep` is the reason to leave it out."""

_IN_CATALOGUE: Final = Rule(
    "unknown_item", names.ITEM_ID, _is_in_catalogue, _NOT_LISTED, "complete the catalogue"
)
"""It compares ids, so it comes when their type is known."""


class RowValidator:
    """Applies policies to invalid rows and collects the report.

    Raises:
        DataError: There are no rows, too many invalid ones, or one whose policy is `error`.
    """

    def __init__(
        self,
        table: RawTable,
        source: str,
        checks: Checks,
        layout: Layout = LAYOUTS["csv"],
        item_table: ItemTable | None = None,
    ) -> None:
        self.table, self.source, self.checks, self.item_table = table, source, checks, item_table
        self.layout = layout
        self.scale = checks.scale
        self.sentinel: Sentinel | None = None
        self.now: int = math.ceil(time.time()) if checks.now is None else to_unix(checks.now)
        self.findings: list[Finding] = []
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

        Every rule sees every row. The first broken rule that is not `keep` is the row's reason.

        Returns:
            The table with ids of these types, and which of its rows to use, [n], or None for all.
        """
        mask = np.ones(self.table.n_rows, dtype=np.bool_)
        refused: dict[str, _Mask] = {}
        self.scale = settle_scale(table.rating, self.checks.scale, self.layout.scale)
        for rule in RULES:
            self._apply_rule(rule, table, mask, refused)
        table = replace(
            table,
            user_id=self._settle_ids(names.USER_ID, table.user_id, mask),
            item_id=self._settle_ids(names.ITEM_ID, table.item_id, mask),
        )
        self._apply_rule(_IN_CATALOGUE, table, mask, refused)
        if not mask.any():
            raise DataError(
                f"{self.source}: no row is left: {'; '.join(map(str, self.findings))}; "
                f"{self.findings[0].remedy}, or set layout= or columns="
            )
        return table, None if mask.all() else mask

    def _apply_rule(
        self, rule: Rule, table: EncodedTable, mask: _Mask, refused: dict[str, _Mask]
    ) -> None:
        """Apply one rule: clear `mask` for rows to leave out; collect refused rows by column."""
        values = getattr(table, rule.column)
        valid = None if values is None else rule.is_valid(values, self)
        if valid is None or valid.all():
            return
        broken = ~valid
        if getattr(self.checks, rule.check) == "keep":
            # A value that is no number is not off the scale as well.
            positions = np.flatnonzero(broken & ~refused.get(rule.column, np.False_))
        else:
            refused[rule.column] = broken | refused.get(rule.column, np.False_)
            positions = np.flatnonzero(broken & mask)
        message, remedy = (
            text.format(scale=self.scale, sentinel=self.sentinel)
            for text in (rule.message, rule.remedy)
        )
        if self.apply_policy(rule.check, positions, message, rule.column, remedy):
            mask[positions] = False

    def _settle_ids(self, column: str, ids: EncodedColumn, mask: _Mask) -> EncodedColumn:
        """Give ids the type that those of the rows in `mask` have; leave out the others."""
        is_integer, odd, message = ids.decide(mask)
        if odd.any():
            rows = np.flatnonzero(np.append(odd, False)[ids.codes] & mask)
            if not is_integer:
                examples = self._examples(rows[:N_EXAMPLES], message, column)
                self.findings.append(Finding("id_type", "keep", len(rows), tuple(examples)))
            elif self.apply_policy("id_type", rows, message, column, _ID_REMEDY):
                mask[rows] = False
            else:
                is_integer = False
        return ids.as_integers() if is_integer else ids

    def apply_policy(
        self, check: str, positions: _Ints, message: str, column: str = "", remedy: str = REMEDY
    ) -> bool:
        """Apply the policy for some rows, and return whether to leave them out."""
        if not len(positions):
            return False
        positions = np.sort(positions)
        examples = self._examples(positions[:N_EXAMPLES], message, column)
        if self._decide(check, len(positions), examples, remedy) == "keep":
            return False
        self.reason_of_row[positions] = len(self.reasons)
        self.reasons.append((check, f"{column} {message}".strip()))
        return True

    def _examples(self, positions: _Ints, message: str, column: str) -> list[str]:
        """Describe some rows: location, value and what is wrong with it."""
        return [f"{self.table.describe(int(row), column)} {message}" for row in positions]

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
            raise DataError(f"{first} {rows}; {remedy}, or set {check}=quarantine")
        self.findings.append(Finding(check, policy, n, tuple(examples), remedy))
        if policy == "quarantine" and check not in EXPECTED:
            self.n_invalid += n
            fraction = self.n_invalid / self.n_rows
            if fraction > self.checks.max_invalid_fraction:
                raise DataError(
                    f"{self.source}: {fraction:.0%} of the rows are invalid. {first} {rows}; "
                    "correct them, or set layout= or columns="
                )
        return policy
