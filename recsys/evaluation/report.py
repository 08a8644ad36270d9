"""Evaluate models on a split, and lay the results side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys import columns
from recsys.baselines import fit_popularity
from recsys.data import Split, Subset
from recsys.errors import DataError
from recsys.evaluation.beyond import beyond_accuracy, diversity, serendipity
from recsys.evaluation.lists import set_metrics
from recsys.evaluation.metrics import METRICS, TITLES, mean_metrics
from recsys.evaluation.protocol import (
    DEFAULT_PROTOCOL,
    FINGERPRINT,
    Fingerprint,
    RankingProtocol,
    require_comparable,
)
from recsys.evaluation.ranking import Scorer, rank

CUTOFFS = (5, 10, 20)
"""The lengths of list at which metrics are given."""

TOP_K = 10
"""How many recommended items a report keeps of each list."""


@dataclass(frozen=True, eq=False)
class Report:
    """How well one model predicted the targets of a split."""

    metrics: Mapping[str, float]
    """Means over targets, as `ndcg_at_10`."""
    beyond: Mapping[str, float]
    """Coverage, Gini, popularity, novelty and serendipity of what was recommended, and diversity
    where there were vectors to tell it by, as `coverage_at_10`."""
    lists: Mapping[str, float]
    """HitRate, Recall, Precision, NDCG, MRR and MAP of the list that each user got before the
    first target, all the user's targets being right, as `list_recall_at_10`."""
    ranks: NDArray[np.int64]
    """Rank of each target, one is best, [n]."""
    recommended: NDArray[np.int32]
    """The items ranked first for each target's history, [n, `TOP_K`]; −1 where there are fewer."""
    users: NDArray[Any]
    """External id of each target's user, [n]; a user stands here once per target."""
    fingerprint: Fingerprint
    """What must agree with another report to be comparable."""

    def per_user(self) -> pd.DataFrame:
        """One row per target: `user_id` and `rank`; the fingerprint among its `attrs`.

        Parquet keeps both, so that models of different runs can be compared later.
        """
        table = pd.DataFrame({columns.USER_ID: self.users, columns.RANK: self.ranks})
        table.attrs[FINGERPRINT] = dict(self.fingerprint)
        return table


def evaluate(
    model: Scorer,
    split: Split,
    subset: Subset = "test",
    ks: Sequence[int] = CUTOFFS,
    protocol: RankingProtocol = DEFAULT_PROTOCOL,
    *,
    item_vectors: NDArray[np.float32] | None = None,
) -> Report:
    """Rank every target among the whole catalogue, by default what its user had seen left out.

    Args:
        model: anything with `score(histories)`; it must have learned from `split.train` alone.
        split: what was held back.
        subset: "validation" to choose between models, "test" to report the one chosen.
        ks: lengths of list.
        protocol: how the catalogue is ranked.
        item_vectors: what tells how alike two items are, for the diversity of lists,
            [n_items, dim].

    Raises:
        DataError: the split has no such targets.
    """
    users = split.users(subset)
    if not len(users):
        raise DataError(f"{split.empty_reason}: there is nothing to evaluate on ({subset} targets)")
    histories, targets = split.histories(subset), split.targets(subset)
    ranking = rank(model, histories, targets, TOP_K, mask_seen=protocol.mask_seen)
    obvious = rank(
        fit_popularity(split.train),
        histories,
        targets,
        mask_seen=protocol.mask_seen,
        within=TOP_K,
    )
    beyond = beyond_accuracy(ranking.recommended, split.train)
    beyond[f"serendipity_at_{TOP_K}"] = serendipity(ranking.ranks, obvious.ranks, TOP_K)
    if item_vectors is not None:
        beyond[f"diversity_at_{TOP_K}"] = diversity(ranking.recommended, item_vectors)
    return Report(
        metrics=mean_metrics(ranking.ranks, ks),
        beyond=beyond,
        lists=set_metrics(ranking.recommended, users, targets, split.interactions.n_items),
        ranks=ranking.ranks,
        recommended=ranking.recommended,
        users=split.interactions.users.ids[users],
        fingerprint=protocol.fingerprint(split, subset),
    )


def evaluate_metric(
    model: Scorer, split: Split, subset: Subset = "validation", metric: str = "ndcg_at_10"
) -> float:
    """Compute one metric of `evaluate`, without lists, popularity ranks or other metrics.

    Meant for validation after every epoch. The value equals `evaluate(...).metrics[metric]`.

    Args:
        model: anything with `score(histories)`.
        split: the data; the model must have been trained on `split.train` only.
        subset: the targets to rank.
        metric: a metric and its cutoff, such as `ndcg_at_10`.

    Raises:
        ValueError: the metric is unknown.
        DataError: the split has no such targets.
    """
    name, _, k = metric.rpartition("_at_")
    if name not in METRICS or not k.isdecimal():
        raise ValueError(
            f"unknown metric {metric!r}: expected one of {', '.join(METRICS)}, with a "
            "cutoff, such as 'ndcg_at_10'"
        )
    if not len(split.rows(subset)):
        raise DataError(f"{split.empty_reason}: there is nothing to evaluate on ({subset} targets)")
    ranks = rank(model, split.histories(subset), split.targets(subset), within=int(k)).ranks
    return float(METRICS[name](ranks, int(k)).mean())


def comparison_table(reports: Mapping[str, Report], ks: Sequence[int] = CUTOFFS) -> pd.DataFrame:
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
