"""The decision whether a new model replaces the champion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.config import Config
from recsys.data import Split
from recsys.evaluation.metrics import METRICS, Values
from recsys.evaluation.ranking import CatalogueAdapter, Scorer
from recsys.evaluation.report import Report, evaluate, require_comparable
from recsys.evaluation.segments import segment_targets
from recsys.evaluation.statistics import bootstrap_interval, mean_by_user, randomization_p
from recsys.vocabulary import Vocabulary

PRIMARY_METRIC = "ndcg_at_10"  # on the validation targets, to choose between models


class PromotionRule(Config):
    """The conditions under which a new model replaces the champion."""

    metric: Literal[*METRICS] = "ndcg"  # type: ignore[valid-type]
    """Metric to compare."""
    k: int = Field(default=10, ge=1)
    """Cutoff of the metric."""
    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Significance level of the improvement, and of a decline in any segment."""
    min_improvement: float = Field(default=0.0, ge=0)
    """Smallest improvement of the metric."""
    segment_margin: float = Field(default=0.01, ge=0)
    """Largest decline of the metric in a segment."""
    min_segment_size: int = Field(default=30, ge=2)
    """Segments with fewer targets are not checked."""
    latency_budget_ms: float | None = Field(default=None, gt=0)
    """Largest latency of one recommendation (95th percentile); None for no limit."""


@dataclass(frozen=True)
class Verdict:
    """The decision and its reasons."""

    promoted: bool
    challenger: float  # the new model's metric
    champion: float | None  # the champion's metric
    metric: str
    comparison: str
    """The difference with its interval and p-value; empty without a champion."""
    failed_checks: tuple[str, ...]

    def __str__(self) -> str:
        summary = f"validation {self.metric} {self.challenger:.4f}"
        if self.champion is None:
            summary += ", no champion to compare with"
        else:
            summary += f", champion {self.champion:.4f}, difference {self.comparison}"
        outcome = "promoted" if self.promoted else "not promoted"
        return "; ".join([summary, outcome, *self.failed_checks])


def promote_if_better(
    challenger: Report,
    champion: tuple[Scorer, Vocabulary] | None,
    split: Split,
    rule: PromotionRule | None = None,
    *,
    latency_ms: float | None = None,
) -> Verdict:
    """Compare a new model with the champion on the validation targets of the same split.

    The champion is evaluated on the challenger's users and items, whatever it was trained on.
    The challenger is promoted if its improvement is statistically significant (randomisation
    test over users) and large enough, no segment declines, and its latency is within budget.

    Args:
        challenger: the new model's report on the validation targets.
        champion: the current model and its items, if there is one.
        split: the data that the new model was trained on.
        rule: the conditions; by default, those of `PromotionRule()`.
        latency_ms: of the new model, from `measure_latency`; required if there is a budget.

    Raises:
        ValueError: the challenger's report is not comparable, or `latency_ms` is missing.
    """
    rule = rule or PromotionRule()
    metric = f"{rule.metric}_at_{rule.k}"
    challenger_values = METRICS[rule.metric](challenger.ranks, rule.k)
    mean = float(challenger_values.mean())
    failed = []
    if (budget := rule.latency_budget_ms) is not None:
        if latency_ms is None:
            raise ValueError("latency_budget_ms is set: pass latency_ms, from measure_latency")
        if latency_ms > budget:
            failed.append(f"latency {latency_ms:.3g} ms exceeds latency_budget_ms = {budget:.3g}")
    if champion is None:
        return Verdict(not failed, mean, None, metric, "", tuple(failed))
    scorer = CatalogueAdapter(*champion, data_items=split.interactions.items)
    report = evaluate(scorer, split, "validation")
    require_comparable({"challenger": challenger.fingerprint, "champion": report.fingerprint})
    champion_values = METRICS[rule.metric](report.ranks, rule.k)
    differences = challenger_values - champion_values
    by_user = mean_by_user(differences, report.users)
    improvement, p = float(by_user.mean()), randomization_p(by_user)
    low, high = bootstrap_interval(by_user)
    comparison = f"{improvement:+.4f} (95% interval {low:+.4f} to {high:+.4f}, p = {p:.2g})"
    if improvement <= 0:
        failed.append(f"{metric} did not improve")
    elif p >= rule.alpha:
        failed.append(
            f"the improvement is not statistically significant (p = {p:.2g}, alpha = {rule.alpha})"
        )
    if 0 < improvement < rule.min_improvement:
        failed.append(f"the improvement is smaller than min_improvement = {rule.min_improvement}")
    failed += _check_segments(differences, report.users, split, rule)
    champion_mean = float(champion_values.mean())
    return Verdict(not failed, mean, champion_mean, metric, comparison, tuple(failed))


def _check_segments(
    differences: Values, users: NDArray[Any], split: Split, rule: PromotionRule
) -> list[str]:
    """Segments whose decline exceeds the margin by the upper end of its confidence interval.

    The level of the intervals is adjusted for the number of segments (Bonferroni).
    """
    checked = [
        (f"{name} {segment}", categorical.codes == code)
        for name, categorical in segment_targets(split, "validation").items()
        for code, segment in enumerate(categorical.categories)
        if np.count_nonzero(categorical.codes == code) >= rule.min_segment_size
    ]
    level = 1 - 2 * rule.alpha / max(len(checked), 1)
    failed = []
    for name, is_member in checked:
        by_user = mean_by_user(differences[is_member], users[is_member])
        _, high = bootstrap_interval(by_user, level=level)
        if high < -rule.segment_margin:
            metric = f"{rule.metric}_at_{rule.k}"
            failed.append(f"{metric} declines by {-by_user.mean():.4f} for {name}")
    return failed
