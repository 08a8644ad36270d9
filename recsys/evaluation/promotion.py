"""Whether a new model takes the place of the one in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.config import Config
from recsys.data import Split
from recsys.evaluation.aligned import CatalogueAdapter
from recsys.evaluation.metrics import METRICS
from recsys.evaluation.protocol import DEFAULT_PROTOCOL, RankingProtocol, require_comparable
from recsys.evaluation.ranking import Scorer
from recsys.evaluation.report import Report, evaluate
from recsys.evaluation.segments import Segments, segments_of
from recsys.evaluation.uncertainty import bootstrap_interval, mean_by_user, randomization_p
from recsys.vocabulary import Vocabulary

PRIMARY_METRIC = "ndcg_at_10"
"""What decides, on the validation targets, unless a rule says otherwise."""


class PromotionRule(Config):
    """What a new model has to show."""

    metric: Literal["hit_rate", "ndcg", "mrr"] = "ndcg"
    k: int = Field(default=10, ge=1)

    alpha: float = Field(default=0.05, gt=0, lt=1)
    """How often chance alone may promote, or find a segment worse."""

    min_improvement: float = Field(default=0.0, ge=0)
    """By how much the metric must rise at least."""

    segment_margin: float = Field(default=0.01, ge=0)
    """By how much it may fall in a segment."""

    min_segment_size: int = Field(default=30, ge=2)
    """Segments of fewer targets are not looked at: nothing can be said of them."""

    latency_budget_ms: float | None = Field(default=None, gt=0)
    """The longest that one recommendation may take (95th percentile); None sets no limit."""

    @property
    def name(self) -> str:
        """The metric's key, as `ndcg_at_10`."""
        return f"{self.metric}_at_{self.k}"


DEFAULT_RULE = PromotionRule()


@dataclass(frozen=True)
class Verdict:
    """Who won, by what, and why."""

    promoted: bool
    challenger: float
    champion: float | None
    metric: str
    comparison: str
    """The difference with its interval and p-value; empty where there was no champion."""
    failed_checks: tuple[str, ...]
    """Each reason against the new model; it is promoted if there is none."""

    def __str__(self) -> str:
        if self.champion is None:
            found = f"champion: there was none (validation {self.metric} {self.challenger:.4f})"
        else:
            found = (
                f"validation {self.metric} {self.challenger:.4f} against the present champion's "
                f"{self.champion:.4f} on the same users: {self.comparison}"
            )
        return "; ".join(
            [found, "promoted" if self.promoted else "not promoted", *self.failed_checks]
        )


def promote_if_better(
    challenger: Report,
    champion: tuple[Scorer, Vocabulary] | None,
    split: Split,
    rule: PromotionRule = DEFAULT_RULE,
    protocol: RankingProtocol = DEFAULT_PROTOCOL,
    *,
    latency_ms: float | None = None,
) -> Verdict:
    """Compare a new model with the champion on the validation targets of the same split.

    The champion is scored anew, so that both are judged on the same users and items, whatever
    data it was trained on. The new model wins if the rise is one that chance does not explain
    (randomisation test over users), is large enough, is not paid for by any segment, and answers
    in time.

    Args:
        challenger: the new model's results on the validation targets.
        champion: the model in use and the items that it knows; None where there is none.
        split: the data that the new model was trained on.
        rule: what it has to show.
        protocol: how the catalogue is ranked.
        latency_ms: how long the new model takes for one recommendation, where there is a budget.

    Raises:
        ValueError: `challenger` is of other targets than the validation targets of `split`, or
            there is a latency budget and no latency.
    """
    new = float(METRICS[rule.metric](challenger.ranks, rule.k).mean())
    failed_checks = _latency_objections(latency_ms, rule)
    if champion is None:
        return Verdict(not failed_checks, new, None, rule.name, "", tuple(failed_checks))
    model, own = champion
    scorer = CatalogueAdapter(model, own, split.interactions.items)
    report = evaluate(scorer, split, "validation", protocol=protocol)
    require_comparable(
        {"the challenger": challenger.fingerprint, "the champion": report.fingerprint}
    )
    metric = METRICS[rule.metric]
    rises = metric(challenger.ranks, rule.k) - metric(report.ranks, rule.k)
    by_user = mean_by_user(rises, report.users)
    rise, p = float(by_user.mean()), randomization_p(by_user)
    low, high = bootstrap_interval(by_user)
    comparison = f"{rise:+.4f} (95% interval {low:+.4f} to {high:+.4f}, p = {p:.2g})"
    if rise <= 0:
        failed_checks.append("it is not better")
    elif p >= rule.alpha:
        failed_checks.append(f"the rise may be chance: p is not below {rule.alpha}")
    if 0 < rise < rule.min_improvement:
        failed_checks.append(f"the rise is smaller than {rule.min_improvement}")
    failed_checks += _segment_objections(
        rises, report.users, segments_of(split, "validation"), rule
    )
    old = float(metric(report.ranks, rule.k).mean())
    return Verdict(not failed_checks, new, old, rule.name, comparison, tuple(failed_checks))


def _latency_objections(latency_ms: float | None, rule: PromotionRule) -> list[str]:
    if rule.latency_budget_ms is None:
        return []
    if latency_ms is None:
        raise ValueError("the rule has a latency budget: measure latency_ms and pass it")
    if latency_ms <= rule.latency_budget_ms:
        return []
    return [f"it takes {latency_ms:.3g} ms, more than the {rule.latency_budget_ms:.3g} allowed"]


def _segment_objections(
    rises: NDArray[np.float64], users: NDArray[np.generic], segments: Segments, rule: PromotionRule
) -> list[str]:
    """The segments in which the fall is surely more than the margin.

    Surely: the upper end of its interval is below. Intervals are widened for the number of
    segments (Bonferroni), or some segment would nearly always seem worse.
    """
    looked_at = [
        (f"{by} {segment}", of.codes == code)
        for by, of in segments.items()
        for code, segment in enumerate(of.categories)
        if np.count_nonzero(of.codes == code) >= rule.min_segment_size
    ]
    level = 1 - 2 * rule.alpha / max(len(looked_at), 1)
    failed_checks = []
    for name, here in looked_at:
        by_user = mean_by_user(rises[here], users[here])
        _, high = bootstrap_interval(by_user, level=level)
        if high < -rule.segment_margin:
            failed_checks.append(f"for {name} it is worse by {-by_user.mean():.4f}")
    return failed_checks
