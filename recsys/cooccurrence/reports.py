"""One account of what was left out, from those of several parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from recsys.data import Finding, ReadReport


def merge_reports(source: str, reports: Sequence[ReadReport]) -> ReadReport:
    """One report of a source that was read in parts; places are those within the parts.

    Args:
        source: what to call it.
        reports: of the parts, at least one.
    """
    findings: dict[str, Finding] = {}
    for one in (finding for report in reports for finding in report.findings):
        before = findings.get(one.check)
        findings[one.check] = (
            one if before is None else replace(before, n_rows=before.n_rows + one.n_rows)
        )
    return ReadReport(
        source=source,
        n_rows=sum(report.n_rows for report in reports),
        n_used=sum(report.n_used for report in reports),
        findings=tuple(findings.values()),
        has_timestamps=reports[0].has_timestamps,
        quarantined=pd.concat([report.quarantined for report in reports], ignore_index=True),
    )
