"""Which rows are used, and the account of those that are not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.data.reading.checks import Checks, Finding, LenientPolicy, ReadReport
from recsys.data.reading.raw import KNOWN, RawRatings
from recsys.data.reading.rules import Rule
from recsys.errors import DataError
from recsys.storage import atomic_file

_REMEDY = {
    "rating_scale": "say what the scale is (scale)",
    "unknown_item": "complete the catalogue",
    "future_time": "say what time it is (now)",
}


class Judge:
    """Decides about faults by their policies; keeps the account.

    Raises:
        DataError: there are no rows.
    """

    def __init__(self, raw: RawRatings, checks: Checks, source: str) -> None:
        self.raw, self.checks, self.source = raw, checks, source
        self.findings: list[Finding] = []
        self.left_out: list[pd.DataFrame] = []
        self.n_rows = raw.n_rows + sum(len(part.malformed) for part in raw.parts)
        self.n_bad = 0
        if not self.n_rows:
            raise DataError(f"{source}: there are no rows in it")

    def set_malformed_aside(self) -> None:
        """Decide about the lines that are no rows.

        Raises:
            DataError: there are any, and they are errors.
        """
        lines = [(part.name, one) for part in self.raw.parts for one in part.malformed]
        if not lines:
            return
        name, one = lines[0]
        first = f"{name}, line {one.line}: {one.text!r} {one.reason}"
        self._decide("malformed_row", len(lines), first)
        self.n_bad += len(lines)
        self._refuse_too_many("malformed_row", len(lines), first)
        rejected = pd.DataFrame(
            [(name, one.line, one.text, one.reason) for name, one in lines],
            columns=["file", "line", "text", "reason"],
        )
        self.left_out.append(rejected.assign(check="malformed_row"))

    def decide_by_rules(
        self, rules: Sequence[Rule], broken: Sequence[NDArray[np.int64]]
    ) -> NDArray[np.bool_] | None:
        """Decide about the rows that break a rule.

        Args:
            rules: the rules.
            broken: for each, the positions of the rows that break it.

        Returns:
            Which rows stay, [n]; None where all do.

        Raises:
            DataError: a fault is an error, or there are too many of them.
        """
        stays = np.ones(self.raw.n_rows, dtype=np.bool_)
        for rule, positions in zip(rules, broken, strict=True):
            if not len(positions):
                continue
            first = f"{self._name(int(positions[0]), rule.column)} {rule.otherwise}"
            if self._decide(rule.check, len(positions), first) == "keep":
                continue
            self.n_bad += len(positions)
            self._refuse_too_many(rule.check, len(positions), first)
            stays[positions] = False
            reason = f"{rule.column} {rule.otherwise}"
            self.left_out.append(self._as_written(positions, rule.check, reason))
        return None if stays.all() else stays

    def decide(self, check: str, positions: NDArray[np.int64], reason: str) -> bool:
        """Decide about rows that are wrong beside others; whether they are to be left out.

        Raises:
            DataError: such rows are errors.
        """
        if not len(positions):
            return False
        positions = np.sort(positions)
        first = f"{self.raw.place(int(positions[0]))} {reason}"
        if self._decide(check, len(positions), first) == "keep":
            return False
        self.left_out.append(self._as_written(positions, check, reason))
        return True

    def report(self, kept: int, has_times: bool, target: Path | None) -> ReadReport:
        """The account; rows that were left out are written to `target`, if there is one."""
        rejected = pd.DataFrame()
        if self.left_out:
            rejected = pd.concat(self.left_out, ignore_index=True)
            rejected = rejected.sort_values(["file", "line"], kind="stable", ignore_index=True)
        if target is not None:
            write_rejected(rejected, target)
        return ReadReport(
            source=self.source,
            rows=self.n_rows,
            kept=kept,
            findings=tuple(self.findings),
            has_times=has_times,
            rejected=rejected,
            rejected_path=target if len(rejected) else None,
        )

    def _decide(self, check: str, n: int, first: str) -> LenientPolicy:
        policy: LenientPolicy = getattr(self.checks, check)
        if policy == "error":
            self._refuse(check, n, first, "or set the check to quarantine")
        self.findings.append(Finding(check, policy, n, first))
        return policy

    def _refuse_too_many(self, check: str, n: int, first: str) -> None:
        if self.n_bad <= self.checks.max_bad_share * self.n_rows:
            return
        share = self.n_bad / self.n_rows
        told = f"{share:.0%} of the rows cannot be used, so that this is not what it is taken for"
        self._refuse(check, n, f"{self.source}: {told}. {first}", "or name the layout or columns")

    def _refuse(self, check: str, n: int, first: str, otherwise: str) -> NoReturn:
        remedy = _REMEDY.get(check, "correct or remove them")
        rows = "1 such row" if n == 1 else f"{n:,} such rows"
        raise DataError(f"{first} ({check}, {rows}); {remedy}, {otherwise}")

    def _name(self, position: int, column: str) -> str:
        value = self.raw.value(column, position)
        told = "nothing" if value is None else repr(value)
        return f"{self.raw.place(position)}, column {column!r}: {told}"

    def _as_written(self, positions: NDArray[np.int64], check: str, reason: str) -> pd.DataFrame:
        files, lines = self.raw.places(positions)
        written = {name: self.raw.text(name, positions) for name in self.raw.columns}
        facts = {"file": files, "line": lines, **written}
        return pd.DataFrame(facts).assign(check=check, reason=reason)


_COLUMNS = ("file", "line", *KNOWN, "text", "check", "reason")


def write_rejected(rejected: pd.DataFrame, target: Path) -> None:
    """Write the rows that were left out; where there are none, remove those of an earlier time.

    Raises:
        DataError: nothing can be written there.
    """
    try:
        if not len(rejected):
            target.unlink(missing_ok=True)
            return
        with atomic_file(target) as draft:
            rejected[[name for name in _COLUMNS if name in rejected]].to_parquet(draft)
    except OSError as error:
        raise DataError(
            f"{target}: the {len(rejected):,} rows that are left out cannot be written there "
            f"({error.strerror}); name another file for them (rejected)"
        ) from error
