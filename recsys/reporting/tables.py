"""The rows of a report's tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from recsys.evaluation import Report, confidence_intervals, significance_table
from recsys.evaluation.metrics import METRICS, TITLES
from recsys.evaluation.report import TOP_K

K = 10

BEYOND = ("coverage", "gini", "popularity", "novelty", "diversity", "serendipity")
"""What the second table tells, in this order; what a report lacks is left empty."""


@dataclass(frozen=True)
class Estimate:
    """A mean over users, and the interval around it."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """What the tables tell of a model."""

    model: str
    accuracy: Mapping[str, Estimate]
    """By the metric's title, as `NDCG@10`."""
    difference: Estimate | None
    """NDCG@10 less that of the reference; None for the reference."""
    p: float | None
    """That chance alone makes such a difference, adjusted for the number of models."""
    beyond: Mapping[str, float | None]


def rows(reports: Mapping[str, Report], reference: str) -> list[Row]:
    """One row per model, best NDCG first.

    Raises:
        ValueError: reports are not comparable; names the first difference.
    """
    ranks = {name: report.to_frame() for name, report in reports.items()}
    differences = significance_table(reference, ranks, "ndcg", K)
    found = []
    for name, report in reports.items():
        table = confidence_intervals(ranks[name], [K])
        has_difference = name != reference
        found.append(
            Row(
                model=name,
                accuracy={
                    f"{TITLES[metric]}@{K}": Estimate(*table.loc[f"{metric}_at_{K}"])
                    for metric in METRICS
                },
                difference=Estimate(*differences.loc[name, ["difference", "low", "high"]])
                if has_difference
                else None,
                p=float(differences["p_holm"][name]) if has_difference else None,
                beyond={title: report.list_quality.get(f"{title}_at_{TOP_K}") for title in BEYOND},
            )
        )
    return sorted(found, key=lambda row: -row.accuracy[f"NDCG@{K}"].mean)
