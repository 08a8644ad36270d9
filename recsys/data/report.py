"""The report of a read: what was used, what was left out, and why."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd
import pyarrow as pa

from recsys.data.profile import LogProfile

Policy = Literal["error", "quarantine"]
"""`error`: refuse the source. `quarantine`: leave the row out and write it, with its line and the
reason, to `<name>.quarantine.parquet`."""

LenientPolicy = Literal["error", "quarantine", "keep"]
"""As `Policy`; `keep`: use the row as it is and count it."""

REMEDY: Final = "correct or remove them"
"""What to do about invalid rows, if their rule does not say more."""

N_EXAMPLES: Final = 3
"""Examples of each finding."""

EXPECTED: Final = (
    "duplicate", "single_event", "missing_rating", "unused_event", "frequent_user"
)  # fmt: skip
"""Checks that the rows of a valid log may fail."""

_OUTCOMES: Final = {"quarantine": "quarantined", "keep": "kept"}


class DataWarning(UserWarning):
    """Some rows were left out, or an order was assumed; the message has the details."""


@dataclass(frozen=True)
class Finding:
    """The rows that failed one check."""

    check: str
    policy: LenientPolicy
    n_rows: int
    examples: tuple[str, ...]
    """Location and value of the first rows, at most three."""
    remedy: str = REMEDY
    """What to do about them."""

    @property
    def first(self) -> str:
        """Location and value of the first row."""
        return self.examples[0]

    def __str__(self) -> str:
        rows = "row" if self.n_rows == 1 else "rows"
        return (
            f"{self.check}: {self.n_rows:,} {rows} {_OUTCOMES[self.policy]} (first: {self.first})"
        )


@dataclass(frozen=True)
class ReadReport:
    """What was read and what was left out."""

    source: str
    n_rows: int
    """Rows in the source, including malformed lines."""
    n_used: int
    """Rows in the interactions."""
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    """Settings that no row is affected by, and what may be meant."""
    has_timestamps: bool = True
    """False if the rows are assumed to be in chronological order."""
    quarantined_table: pa.Table = field(default_factory=lambda: pa.table({}), repr=False)
    """The rows left out as the source has them (file, line, user_id, item_id, rating, timestamp),
    with `check` and `reason`."""
    quarantine_path: Path | None = None
    """The file that they were written to, if any."""
    make_profile: Callable[[], LogProfile] | None = field(default=None, repr=False)
    """Computes `profile`; None for a source that was read in partitions."""

    @cached_property
    def quarantined(self) -> pd.DataFrame:
        """`quarantined_table` for pandas, converted when it is first needed."""
        # Not as floats, which would round long ids.
        frame: pd.DataFrame = self.quarantined_table.to_pandas(integer_object_nulls=True)
        return frame

    @cached_property
    def profile(self) -> LogProfile | None:
        """What the log was understood to be, computed when it is first needed."""
        return None if self.make_profile is None else self.make_profile()

    @property
    def n_invalid(self) -> int:
        """Rows left out, without repeated ones and others that are to be expected."""
        invalid = (f for f in self.findings if f.policy == "quarantine" and f.check not in EXPECTED)
        return sum(finding.n_rows for finding in invalid)

    def metrics(self) -> dict[str, float]:
        """Row counts for tracking, such as `duplicate_rows`."""
        counts = Counter(read_rows=self.n_rows, used_rows=self.n_used)
        for finding in self.findings:
            counts[f"{finding.check}_rows"] += finding.n_rows
        return {name: float(n) for name, n in counts.items()}

    def summary(self) -> str:
        """Describe what was read in a few lines, for logs."""
        if self.profile is None:
            return str(self)
        used, *others = self._parts()
        size = ", ".join(f"{n:,} {name}" for name, n in self.profile.size.items())
        lines = [f"{name}: {value}" for name, value in self.profile.describe().items()]
        return "\n  ".join([f"{used}: {size}", *lines, "; ".join(others)]).rstrip()

    def to_dict(self) -> dict[str, Any]:
        """Describe what was read, for JSON."""
        profile = {} if self.profile is None else asdict(self.profile)
        return {
            "source": self.source,
            "n_rows": self.n_rows,
            "n_used": self.n_used,
            "n_invalid": self.n_invalid,
            **profile,
            "notes": [*self.notes],
            "findings": [asdict(finding) for finding in self.findings],
            "quarantine_path": self.quarantine_path and str(self.quarantine_path),
        }

    def table(self) -> pd.DataFrame:
        """One row per finding: check, policy, rows, first."""
        rows = [(f.check, f.policy, f.n_rows, f.first) for f in self.findings]
        return pd.DataFrame(rows, columns=["check", "policy", "rows", "first"])

    def __str__(self) -> str:
        return "; ".join(self._parts())

    def _parts(self) -> list[str]:
        parts = [f"{self.source}: {self.n_used:,} of {self.n_rows:,} rows are used"]
        parts += [str(finding) for finding in self.findings]
        parts += self.notes
        if self.quarantine_path is not None:
            parts.append(f"quarantined rows are in {self.quarantine_path}")
        if not self.has_timestamps:
            parts.append("no timestamps: rows are assumed to be in chronological order")
        return parts


ReportCallback = Callable[[ReadReport], None]


def warn_on_report(report: ReadReport) -> None:
    """Issue a `DataWarning` if there are notes, or rows were left out or their order assumed."""
    if report.n_rows != report.n_used or report.notes or not report.has_timestamps:
        warnings.warn(str(report), DataWarning, stacklevel=3)
