"""Evaluate models on a split, and lay the results side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys import columns
from recsys.data import Split, Target
from recsys.errors import DataError
from recsys.evaluation.metrics import METRICS, TITLES, mean_metrics
from recsys.evaluation.ranking import Scorer, rank_targets

KS = (5, 10, 20)
"""The lengths of list at which metrics are given."""


@dataclass(frozen=True, eq=False)
class Report:
    """How well one model predicted the targets of a split."""

    metrics: Mapping[str, float]
    """Means over targets, as `ndcg_at_10`."""
    ranks: NDArray[np.int64]
    """Rank of each target, one is best, [n]."""
    users: NDArray[Any]
    """External id of each target's user, [n]; a user stands here once per target."""
    fingerprint: Mapping[str, str | int | float]
    """What must agree with another report to be comparable."""

    def per_user(self) -> pd.DataFrame:
        """One row per target: `user_id` and `rank`."""
        return pd.DataFrame({columns.USER_ID: self.users, columns.RANK: self.ranks})


def evaluate(
    model: Scorer, split: Split, target: Target = "test", ks: Sequence[int] = KS
) -> Report:
    """Rank every target among the whole catalogue, what its user had seen left out.

    Args:
        model: anything with `score(histories)`; it must have learned from `split.train` alone.
        split: what was held back.
        target: "validation" to choose between models, "test" to report the one chosen.
        ks: lengths of list.

    Raises:
        DataError: the split has no such targets.
    """
    users = split.users(target)
    if not len(users):
        raise DataError(f"{split.lacking}: there is nothing to evaluate on ({target} targets)")
    ranks = rank_targets(model, split.histories(target), split.targets(target))
    return Report(
        metrics=mean_metrics(ranks, ks),
        ranks=ranks,
        users=split.interactions.users.ids[users],
        fingerprint=split.fingerprint(target),
    )


def comparison_table(reports: Mapping[str, Report], ks: Sequence[int] = KS) -> pd.DataFrame:
    """One row per model, one column per metric (`NDCG@10`), best NDCG@10 first.

    Raises:
        ValueError: the reports are not comparable; names the first difference.
    """
    require_comparable({name: report.fingerprint for name, report in reports.items()})
    rows = {
        name: {
            f"{TITLES[metric]}@{k}": report.metrics[f"{metric}_at_{k}"]
            for metric in METRICS
            for k in ks
        }
        for name, report in reports.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    return table.sort_values(f"NDCG@{ks[len(ks) // 2]}", ascending=False, kind="stable")


def require_comparable(fingerprints: Mapping[str, Mapping[str, str | int | float]]) -> None:
    """Refuse to lay results side by side that were not measured alike.

    Args:
        fingerprints: what each result was measured on, by name.

    Raises:
        ValueError: two differ; names the first difference.
    """
    names = list(fingerprints)
    for name in names[1:]:
        for key, value in fingerprints[names[0]].items():
            if fingerprints[name][key] != value:
                raise ValueError(
                    f"{names[0]} and {name} are not comparable: {key} is {value!r} for the one, "
                    f"{fingerprints[name][key]!r} for the other"
                )
