"""Whether models differ, from the ranks of the same users' targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys import columns
from recsys.evaluation.metrics import METRICS
from recsys.evaluation.protocol import FINGERPRINT, require_comparable
from recsys.evaluation.uncertainty import (
    bootstrap_interval,
    bootstrap_p,
    holm,
    mean_by_user,
    randomization_p,
    wilcoxon_p,
)


def per_user_metric(ranks: pd.DataFrame, metric: str = "ndcg", k: int = 10) -> NDArray[np.float64]:
    """One value per user, the mean over the user's targets, [n_users].

    Args:
        ranks: `user_id` and `rank`, as `Report.per_user` gives and as runs store in Parquet.
        metric: a key of `METRICS`.
        k: length of list.
    """
    values = METRICS[metric](ranks[columns.RANK].to_numpy(), k)
    return mean_by_user(values, ranks[columns.USER_ID].to_numpy())


def paired_differences(
    first: pd.DataFrame, second: pd.DataFrame, metric: str = "ndcg", k: int = 10
) -> NDArray[np.float64]:
    """First less second, for each user, [n_users].

    Raises:
        ValueError: they are of other users, or were not measured alike; names the difference.
    """
    both = {"the first": first, "the second": second}
    require_comparable({name: ranks.attrs.get(FINGERPRINT, {}) for name, ranks in both.items()})
    if not np.array_equal(first[columns.USER_ID], second[columns.USER_ID]):
        raise ValueError("the two are of other users, or of the same in another order")
    return per_user_metric(first, metric, k) - per_user_metric(second, metric, k)


def significance_table(
    reference: str,
    ranks: Mapping[str, pd.DataFrame],
    metric: str = "ndcg",
    k: int = 10,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Test every model against one, on the same users.

    Args:
        reference: the name of the one.
        ranks: `user_id` and `rank` of each model, by name.
        metric: a key of `METRICS`.
        k: length of list.
        level: of the intervals.
        seed: of the resampling.

    Returns:
        One row per other model: the difference (that model less the reference), its interval,
        and two-sided p-values of three tests; `p_holm` is that of the randomisation test,
        adjusted for the number of models compared.

    Raises:
        ValueError: two are not comparable.
    """
    rows = {}
    for name in ranks:
        if name == reference:
            continue
        try:
            differences = paired_differences(ranks[name], ranks[reference], metric, k)
        except ValueError as error:
            raise ValueError(f"{name} and {reference}: {error}") from error
        low, high = bootstrap_interval(differences, level=level, seed=seed)
        rows[name] = {
            "difference": float(differences.mean()),
            "low": low,
            "high": high,
            "p_randomization": randomization_p(differences, seed=seed),
            "p_bootstrap": bootstrap_p(differences, seed=seed),
            "p_wilcoxon": wilcoxon_p(differences),
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    if rows:
        table["p_holm"] = holm(table["p_randomization"].to_numpy(dtype=np.float64))
    return table


def intervals(
    ranks: pd.DataFrame, ks: Sequence[int], *, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """The mean over users of every metric, with its bootstrap interval.

    Args:
        ranks: `user_id` and `rank`.
        ks: lengths of list.
        level: of the intervals.
        seed: of the resampling.

    Returns:
        `mean`, `low` and `high`, one row per metric, as `ndcg_at_10`.
    """
    rows = {}
    for metric in METRICS:
        for k in ks:
            values = per_user_metric(ranks, metric, k)
            low, high = bootstrap_interval(values, level=level, seed=seed)
            rows[f"{metric}_at_{k}"] = {"mean": values.mean(), "low": low, "high": high}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("metric")
