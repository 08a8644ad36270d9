"""What is checked of ratings, what is done about it, and the account of both."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field, ValidationError

from recsys.config import Config, format_validation_error
from recsys.data.timestamps import TimestampLike
from recsys.errors import ConfigError

Policy = Literal["error", "quarantine"]
"""`error`: refuse the source. `quarantine`: leave the row out, and write it, with its line and
the reason, to `<name>.rejected.parquet`."""

LenientPolicy = Literal["error", "quarantine", "keep"]
"""As `Policy`; `keep`: use the row as it is, and count it."""


class DataWarning(UserWarning):
    """The data was usable, but not as it stood; the message says what was done."""


class Checks(Config):
    """What to do about rows that cannot be right.

    A source that is not what it should be as a whole (a column is missing, the file is cut off,
    its letters are of another encoding, there are no rows) is always refused.
    """

    malformed_row: Policy = "quarantine"
    """A line with more or fewer columns than are due."""

    missing_id: Policy = "quarantine"
    """No user or no item."""

    id_type: Policy = "quarantine"
    """An id that is no integer, in a layout all of whose ids are."""

    bad_rating: Policy = "quarantine"
    """A rating that is not a finite number."""

    rating_scale: LenientPolicy = "quarantine"
    """A rating outside `scale`."""

    bad_timestamp: Policy = "quarantine"
    """A time that cannot be read."""

    negative_time: LenientPolicy = "quarantine"
    """A time before 1970."""

    future_time: LenientPolicy = "quarantine"
    """A time after `now`."""

    unknown_item: LenientPolicy = "keep"
    """An item that the catalogue lacks, where there is one; it goes by its id."""

    duplicate: LenientPolicy = "quarantine"
    """A row with a later one of the same user and item; the latest is kept."""

    single_event: LenientPolicy = "keep"
    """The only row of its user: it counts towards popularity, and nothing follows from it."""

    scale: tuple[float, float] | None = None
    """The lowest and the highest rating; by default what the layout declares, if anything."""

    now: TimestampLike | None = None
    """Later times lie in the future; by default the moment of reading."""

    max_bad_share: float = Field(default=0.5, gt=0, le=1)
    """Where more rows than this fail, duplicates and single events aside, the source is refused:
    it is not what it is taken for."""


def checks_of(settings: Mapping[str, Any]) -> Checks:
    """Checks from settings written by hand.

    Raises:
        ConfigError: there is no such check, or it cannot be that.
    """
    try:
        return Checks.model_validate(settings)
    except ValidationError as error:
        there = ", ".join(Checks.model_fields)
        raise ConfigError(f"{format_validation_error(error)}; there are {there}") from error


@dataclass(frozen=True)
class Finding:
    """One kind of fault, and how often it was met."""

    check: str
    policy: LenientPolicy
    rows: int
    first: str
    """Where it was first met, and what stands there."""

    def __str__(self) -> str:
        done = {"quarantine": "left out", "keep": "kept"}[self.policy]
        rows = "1 row" if self.rows == 1 else f"{self.rows:,} rows"
        return f"{self.check}: {rows} {done} (first: {self.first})"


@dataclass(frozen=True)
class ReadReport:
    """What was read, and what was not used of it."""

    source: str
    rows: int
    """Rows in the source, malformed ones included."""
    kept: int
    """Rows that are used."""
    findings: tuple[Finding, ...] = ()
    has_times: bool = True
    """False where rows came without times, and the order of the input was taken for that of
    watching."""
    rejected: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    """The rows left out as they were written (file, line, user_id, item_id, rating, timestamp),
    with `check` and `reason`."""
    rejected_path: Path | None = None
    """Where they are written, if they are."""

    def metrics(self) -> dict[str, float]:
        """The counts by name, for a run's record."""
        counts = Counter[str]()
        for finding in self.findings:
            counts[f"{finding.check}_rows"] += finding.rows
        return {"read_rows": float(self.rows), "kept_rows": float(self.kept)} | {
            name: float(rows) for name, rows in counts.items()
        }

    def table(self) -> pd.DataFrame:
        """A row for each finding: check, what was done, how many rows, the first of them."""
        rows = [(one.check, one.policy, one.rows, one.first) for one in self.findings]
        return pd.DataFrame(rows, columns=["check", "policy", "rows", "first"])

    def __str__(self) -> str:
        told = [f"{self.source}: {self.kept:,} of {self.rows:,} rows are used"]
        told += [str(finding) for finding in self.findings]
        if self.rejected_path is not None:
            told.append(f"the rows left out are in {self.rejected_path}")
        if not self.has_times:
            told.append("no times: the order of the rows is taken for the order of watching")
        return "; ".join(told)


OnReport = Callable[[ReadReport], None]


def warn_of(report: ReadReport) -> None:
    """Warn, with a `DataWarning`, of rows that are left out and of an order that is guessed."""
    if report.rows != report.kept or not report.has_times:
        warnings.warn(str(report), DataWarning, stacklevel=3)
