"""Confidence intervals of metrics, and significance tests between models.

All resampling is over users. Metrics take few distinct values, so a resample is drawn as the
number of occurrences of each value, which costs the same for any number of users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from pandas.api.types import is_integer_dtype

from recsys import columns
from recsys.arguments import require, shown, to_int
from recsys.errors import ConfigError, DataError
from recsys.evaluation.metrics import METRICS, Values, mean_by_user
from recsys.evaluation.report import FINGERPRINT, is_over_targets, require_comparable, to_cutoffs

RESAMPLES = 10_000


def bootstrap_interval(
    values: Values, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron & Tibshirani 1993, chapter 13)."""
    means = _resampled_means(values, resamples, seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_p(differences: Values, *, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p-value of the paired bootstrap test (Efron & Tibshirani 1993, chapter 15)."""
    means = _resampled_means(differences, resamples, seed)
    n_across = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    return float(min(1.0, 2 * (n_across + 1) / (resamples + 1)))


def randomization_p(differences: Values, *, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p-value of Fisher's paired randomisation test.

    Smucker, Allan & Carterette 2007: under the null hypothesis, the signs are random.
    """
    sizes, counts = np.unique(np.abs(differences), return_counts=True)
    rng = np.random.default_rng(seed)
    n_positive = rng.binomial(counts, 0.5, size=(resamples, len(sizes)))
    sums = (2 * n_positive - counts) @ sizes
    observed = abs(float(differences.sum()))
    # The tolerance allows for the order of summation.
    extreme = np.count_nonzero(np.abs(sums) >= observed - 1e-9 * max(float(counts @ sizes), 1e-300))
    return float((extreme + 1) / (resamples + 1))


def wilcoxon_p(differences: Values) -> float:
    """Two-sided p-value of the signed-rank test (Wilcoxon 1945), which ignores zeros."""
    from scipy import stats  # slow to import

    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences, zero_method="wilcox").pvalue)


def holm(p_values: Values) -> Values:
    """Adjust p-values for multiple comparisons (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    steps = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def paired_differences(
    first: pd.DataFrame, second: pd.DataFrame, metric: str = "ndcg", k: int = 10
) -> Values:
    """Subtract the second model's metric from the first's, for each user, [n_users]."""
    fingerprints = [table.attrs.get(FINGERPRINT, {}) for table in (first, second)]
    require_comparable(dict(zip(("first", "second"), fingerprints, strict=True)))
    if not np.array_equal(first[columns.USER_ID], second[columns.USER_ID]):
        raise DataError("the tables have different users, or the same users in another order")
    return _metric_by_user(first, metric, k) - _metric_by_user(second, metric, k)


def significance_table(
    reference: str, ranks: Mapping[str, pd.DataFrame], metric: str = "ndcg", k: int = 10
) -> pd.DataFrame:
    """Test the difference of every model to a reference model, on the same users.

    `ranks` holds the `user_id` and `rank` of each model by name, as from `Report.to_frame`;
    `metric` is a key of `METRICS`. The table has one row per other model: `difference` (model −
    reference), its 95% interval (`low`, `high`), and the two-sided p-values of three tests.
    `p_holm` is `p_randomization`, adjusted for the number of models.

    Raises:
        ConfigError: There is no such model or metric.
        DataError: two models are not comparable.
    """
    require(Mapping, ranks=ranks)
    for name, table in ranks.items():
        _require_ranks(f"ranks[{shown(name)}]", table)
    if shown(reference) not in map(shown, ranks):
        raise ConfigError(
            f"reference is {shown(reference)}: the models are {', '.join(map(shown, ranks))}"
        )
    k = to_int("k", k)
    if not isinstance(metric, str) or metric not in METRICS:
        raise ConfigError(
            f"metric is {shown(metric)}: it must be {' or '.join(map(repr, METRICS))}"
        )
    rows = {}
    for name in [name for name in ranks if name != reference]:
        try:
            differences = paired_differences(ranks[name], ranks[reference], metric, k)
        except DataError as error:
            raise DataError(f"{name} and {reference}: {error}") from error
        low, high = bootstrap_interval(differences)
        rows[name] = {
            "difference": float(differences.mean()),
            "low": low,
            "high": high,
            "p_randomization": randomization_p(differences),
            "p_bootstrap": bootstrap_p(differences),
            "p_wilcoxon": wilcoxon_p(differences),
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    if rows:
        table["p_holm"] = holm(table["p_randomization"].to_numpy(dtype=np.float64))
    return table


def confidence_intervals(ranks: pd.DataFrame, ks: Sequence[int]) -> pd.DataFrame:
    """Compute the `mean` of every metric, with its 95% interval (`low`, `high`), one row each."""
    _require_ranks("ranks", ranks)
    rows = {}
    for metric, k in product(METRICS, to_cutoffs(ks)):
        values = _metric_by_user(ranks, metric, k)
        low, high = bootstrap_interval(values)
        rows[f"{metric}_at_{k}"] = {"mean": values.mean(), "low": low, "high": high}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("metric")


def _require_ranks(name: str, ranks: pd.DataFrame) -> None:
    """Raise a `ConfigError` if an argument is no table of ranks."""
    is_table = isinstance(ranks, pd.DataFrame) and {columns.USER_ID, columns.RANK} <= {*ranks}
    if not is_table or not is_integer_dtype(ranks[columns.RANK]):
        raise ConfigError(f"{name} is {shown(ranks)}: it must be a table as of Report.to_frame")


def _metric_by_user(ranks: pd.DataFrame, metric: str, k: int) -> Values:
    values = METRICS[metric](ranks[columns.RANK].to_numpy(), k)
    over_targets = is_over_targets(ranks.attrs.get(FINGERPRINT, {}))
    return mean_by_user(values, ranks[columns.USER_ID].to_numpy(), over_targets=over_targets)


def _resampled_means(values: Values, resamples: int, seed: int) -> Values:
    """Means of samples of n_users values, drawn with replacement, [resamples]."""
    if not len(values):
        raise DataError("there are no users to resample")
    distinct, counts = np.unique(values, return_counts=True)
    rng = np.random.default_rng(seed)
    shares = counts / len(values)
    # In chunks: with several targets per user, almost every user has a distinct value.
    chunk = max(1, 2_000_000 // len(distinct))
    sums = [
        rng.multinomial(len(values), shares, size=min(chunk, resamples - start)) @ distinct
        for start in range(0, resamples, chunk)
    ]
    return np.concatenate(sums) / len(values)
