"""A report as a folder: what was measured; what it was measured on is told by the split."""

from __future__ import annotations

from pathlib import Path

from recsys.data import Split, Subset
from recsys.errors import BundleError
from recsys.evaluation.protocol import DEFAULT_PROTOCOL
from recsys.evaluation.report import Report
from recsys.storage import read_arrays, read_json, write_arrays, write_json

_METRICS, _RANKS = "metrics.json", "ranks.npz"


def write_report(report: Report, folder: Path) -> None:
    """Write a report into a folder, which is made if need be."""
    write_json(
        folder / _METRICS,
        {
            "fingerprint": dict(report.fingerprint),
            "metrics": dict(report.metrics),
            "beyond": dict(report.beyond),
            "lists": dict(report.lists),
        },
    )
    write_arrays(folder / _RANKS, ranks=report.ranks, recommended=report.recommended)


def read_report(folder: Path, split: Split, subset: Subset) -> Report:
    """Read what `write_report` wrote.

    Args:
        folder: where it lies.
        split: what the report is on.
        subset: which of its targets.

    Raises:
        BundleError: a file is missing or damaged, or the report was measured on something else.
    """
    told = read_json(folder / _METRICS)
    fingerprint = DEFAULT_PROTOCOL.fingerprint(split, subset)
    if told.get("fingerprint") != fingerprint:
        raise BundleError(f"{folder} holds a report on other targets, or on other data")
    try:
        arrays = read_arrays(folder / _RANKS)
        return Report(
            metrics=told["metrics"],
            beyond=told["beyond"],
            lists=told["lists"],
            ranks=arrays["ranks"],
            recommended=arrays["recommended"],
            users=split.interactions.users.ids[split.users(subset)],
            fingerprint=fingerprint,
        )
    except (KeyError, OSError, ValueError) as error:
        raise BundleError(f"{folder} does not hold a report: {error}") from error
