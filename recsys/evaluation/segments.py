"""Metrics by segment of users and items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.arguments import require, require_type, shown
from recsys.data import Interactions, Split, Subset
from recsys.errors import ConfigError, DataError
from recsys.evaluation.metrics import mean_metrics
from recsys.evaluation.report import Report, to_cutoffs


def segment_targets(split: Split, subset: Subset) -> dict[str, pd.Categorical[str]]:
    """Segment targets by history length, by popularity of the item, and into warm and cold.

    History lengths are divided into quartiles of targets. Items are divided into deciles of the
    training interactions: decile 1 holds the most popular items, which account for a tenth of
    all interactions, decile 10 the least popular ones. Items without any are cold. If items
    repeat, targets are also divided into items of the history and new ones.
    """
    require_type(split, Split, "leave_last_out")
    cold = split.cold(subset)
    start = np.where(cold.items, 2, np.where(cold.users, 1, 0))
    deciles = popularity_deciles(split.train)[split.targets(subset)]
    deciles[cold.items] = -1  # missing
    coded = {
        "history length": _quartiles(np.array([*map(len, split.histories(subset))])),
        "popularity decile": (deciles, [*map(str, range(1, 11))]),
        "cold start": (start, ["warm", "cold user", "cold item"]),
    }
    if split.interactions.repeats:
        pairs = zip(split.histories(subset), split.targets(subset), strict=True)
        is_new = np.array([target not in history for history, target in pairs], dtype=np.int64)
        coded["target"] = (is_new, ["repeated", "new"])
    return {
        name: pd.Categorical.from_codes(codes, pd.Index(categories))
        for name, (codes, categories) in coded.items()
    }


def popularity_deciles(train: Interactions) -> NDArray[np.int64]:
    """The decile of interactions of each item, from 0, the most popular, to 9, [n_items]."""
    counts = np.bincount(train.item_index, minlength=train.n_items)
    order = np.argsort(-counts, kind="stable")
    n_before = np.cumsum(counts[order]) - counts[order]
    deciles = np.empty(train.n_items, dtype=np.int64)
    deciles[order] = np.minimum(10 * n_before // max(counts.sum(), 1), 9)
    return deciles


def segment_metrics(
    report: Report, segments: Mapping[str, pd.Categorical[str]], ks: Sequence[int] = (10,)
) -> pd.DataFrame:
    """Compute the mean metrics of each segment, one row per segmentation and segment.

    A user counts once in each segment in which there are any of their targets.
    """
    require_type(report, Report, "evaluate")
    require(Mapping, segments=segments)
    require(pd.Categorical, **{f"segments[{shown(name)}]": each for name, each in segments.items()})
    ks = to_cutoffs(ks)
    if not segments:
        raise ConfigError("segments is empty: pass those of segment_targets")
    for name, each in segments.items():
        if len(each) != len(report.ranks):
            raise DataError(
                f"segments[{shown(name)}] has {len(each):,} targets, but the report "
                f"{len(report.ranks):,}"
            )
    rows = [
        {"segmentation": name, "segment": str(segment), "n_targets": int(is_member.sum())}
        | mean_metrics(
            report.ranks[is_member],
            report.users[is_member],
            ks,
            over_targets=report.over_targets,
        )
        for name, categorical in segments.items()
        for code, segment in enumerate(categorical.categories)
        if (is_member := categorical.codes == code).any()
    ]
    return pd.DataFrame(rows).set_index(["segmentation", "segment"])


def _quartiles(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[str]]:
    """Up to four segments of about equal size: their codes, [n], and names, the bounds."""
    edges = np.unique(np.quantile(lengths, [0.25, 0.5, 0.75, 1.0], method="inverted_cdf"))
    codes = np.searchsorted(edges, lengths)
    lows = [lengths[codes == code].min() for code in range(len(edges))]
    return codes, [f"{low} to {high}" for low, high in zip(lows, edges, strict=True)]
