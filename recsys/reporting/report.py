"""A self-contained web page that compares models: tables, charts and example users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from recsys import columns
from recsys.data import Split, Subset
from recsys.errors import ConfigError, DataError
from recsys.evaluation import Report, confidence_intervals, significance_table
from recsys.evaluation.report import TOP_K, metric_titles
from recsys.reporting import charts
from recsys.reporting.pages import render_page

LIST_QUALITY = ("coverage", "gini", "popularity", "novelty", "diversity", "serendipity")
"""Columns of the second table, in order."""

N_EXAMPLES = 5
HISTORY_LENGTH = 8
"""Number of latest interactions shown for an example user."""

Curves = Mapping[str, Mapping[str, Sequence[float]]]
"""Metrics by epoch, as `curves["lstm"]["train_loss"]`."""


class Estimate(NamedTuple):
    """A mean over users with its confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class ModelRow:
    """A model's row in the tables."""

    model: str
    accuracy: Mapping[str, Estimate]
    """By metric, such as `NDCG@10`."""
    difference: Estimate | None
    """NDCG@10 minus that of the reference; None for the reference."""
    p: float | None
    """P-value of the difference, adjusted for the number of models."""
    list_quality: Mapping[str, float | None]


@dataclass(frozen=True)
class Example:
    """One target of one user."""

    user: Any
    n_earlier: int
    """Number of interactions before those shown."""
    history: Sequence[str]
    """Titles of the latest interactions, oldest first."""
    target: str
    recommended: Sequence[tuple[str, bool]]
    """Titles of the reference model's list, best first, and whether each is the target."""
    ranks: Mapping[str, int]
    """Rank of the target by model."""


def report_page(
    reports: Mapping[str, Report],
    split: Split,
    subset: Subset = "test",
    *,
    reference: str | None = None,
    curves: Curves | None = None,
    title: str = "Model comparison",
    seed: int = 0,
) -> str:
    """Compare models on the same targets, on a self-contained web page.

    Args:
        reports: by model name.
        split: the data that the models were evaluated on.
        subset: the targets that they were evaluated on.
        reference: the model that the others are compared with and whose lists are shown; by
            default the first.
        curves: metrics by epoch of training.
        title: headline.
        seed: random seed for the choice of example users.

    Returns:
        HTML that includes all scripts.

    Raises:
        DataError: there are no reports, or they are not comparable.
        ConfigError: there is none of the reference.
    """
    if not reports:
        raise DataError("there are no reports to compare")
    reference = reference or next(iter(reports))
    if reference not in reports:
        raise ConfigError(f"no report of {reference!r}: the models are {', '.join(reports)}")
    rows = model_rows(reports, reference)
    sorted_reports = {row.model: reports[row.model] for row in rows}
    return render_page(
        "report.html",
        title=title,
        reference=reference,
        subset=subset,
        n_targets=len(reports[reference].ranks),
        fingerprint=reports[reference].fingerprint,
        over_targets=reports[reference].over_targets,
        colours=charts.model_colours(list(sorted_reports)),
        targets_line=charts.TARGETS,
        targets_colour=charts.TARGETS_COLOUR,
        rows=rows,
        by_k=charts.metrics_by_k(sorted_reports),
        by_segment=charts.ndcg_by_segment(sorted_reports, split, subset),
        popularity=charts.popularity_of_lists(sorted_reports, split, subset),
        curves=charts.learning_curves(curves or {}),
        examples=sample_examples(sorted_reports, split, subset, reference, seed),
    )


def model_rows(reports: Mapping[str, Report], reference: str, k: int = TOP_K) -> list[ModelRow]:
    """Compute the rows of the tables, sorted by NDCG@k.

    Raises:
        DataError: the reports are not comparable; names the first difference.
    """
    ranks = {name: report.to_frame() for name, report in reports.items()}
    differences = significance_table(reference, ranks, "ndcg", k)
    rows = []
    for name, report in reports.items():
        ks = [k, 20] if report.over_targets else [k]
        table = confidence_intervals(ranks[name], ks)
        difference = p = None
        if name != reference:
            difference = Estimate(*differences.loc[name, ["difference", "low", "high"]])
            p = float(differences["p_holm"][name])
        rows.append(
            ModelRow(
                model=name,
                accuracy={
                    f"{title}@{cutoff}": Estimate(*table.loc[f"{metric}_at_{cutoff}"])
                    for cutoff in ks
                    for metric, title in metric_titles(report.fingerprint).items()
                },
                difference=difference,
                p=p,
                list_quality={
                    metric: report.list_quality.get(f"{metric}_at_{TOP_K}")
                    for metric in LIST_QUALITY
                },
            )
        )
    return sorted(rows, key=lambda row: -row.accuracy[f"NDCG@{k}"].mean)


def sample_examples(
    reports: Mapping[str, Report], split: Split, subset: Subset, reference: str, seed: int
) -> list[Example]:
    """Sample up to `N_EXAMPLES` users at random, with the first target of each."""
    users = split.users(subset)
    rng = np.random.default_rng(seed)
    distinct, first = np.unique(users, return_index=True)
    sampled = rng.choice(len(distinct), size=min(N_EXAMPLES, len(distinct)), replace=False)
    titles = split.interactions.catalogue[columns.TITLE].astype(str).to_numpy()
    histories, targets = split.histories(subset), split.targets(subset)
    examples = []
    for row in first[np.sort(sampled)].tolist():
        history, target = histories[row], targets[row]
        recommended = reports[reference].recommended[row]
        examples.append(
            Example(
                user=reports[reference].users[row],
                n_earlier=max(len(history) - HISTORY_LENGTH, 0),
                history=titles[history[-HISTORY_LENGTH:]].tolist(),
                target=titles[target],
                recommended=[
                    (titles[item], bool(item == target)) for item in recommended[recommended >= 0]
                ],
                ranks={name: int(report.ranks[row]) for name, report in reports.items()},
            )
        )
    return examples
