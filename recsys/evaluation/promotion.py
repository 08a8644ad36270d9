"""The decision whether a new model replaces the champion."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from recsys import columns
from recsys.arguments import require, require_type, shown, to_number
from recsys.config import Config
from recsys.data import Interactions, Split
from recsys.data.catalogue import require_same_catalogue
from recsys.errors import ConfigError
from recsys.evaluation.metrics import METRICS, Values, mean_by_user
from recsys.evaluation.ranking import CatalogueAdapter, Scorer
from recsys.evaluation.report import Report, evaluate, is_over_targets, require_comparable
from recsys.evaluation.segments import segment_targets
from recsys.evaluation.statistics import bootstrap_interval, randomization_p
from recsys.vocabulary import Vocabulary

PRIMARY_METRIC = "ndcg_at_10"
"""The metric on the validation targets by which models are chosen."""


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
    max_decline: float | None = Field(default=None, ge=0)
    """Promote a model that is not worse, although it need not be better: the 95 % interval of the
    difference must be above minus this. For models that also learn new items. None requires a
    significant improvement."""
    segment_margin: float = Field(default=0.01, ge=0)
    """Largest decline of the metric in a segment."""
    min_segment_size: int = Field(default=30, ge=2)
    """Segments with targets of fewer users are not checked."""
    latency_budget_ms: float | None = Field(default=None, gt=0)
    """Largest latency of one recommendation (95th percentile); None for no limit."""


@dataclass(frozen=True)
class Verdict:
    """The decision and its reasons."""

    promoted: bool
    challenger: float  # the new model's metric
    champion: float | None  # the champion's metric on the same targets
    metric: str
    comparison: str
    """The champion's metric and the difference, with its interval and p-value; or what there is
    instead."""
    failed_checks: tuple[str, ...]

    def __str__(self) -> str:
        summary = f"validation {self.metric} {self.challenger:.4f}, {self.comparison}"
        outcome = "promoted" if self.promoted else "not promoted"
        return "; ".join([summary, outcome, *self.failed_checks])


def promote_if_better(
    challenger: Report,
    champion: tuple[Scorer, pd.DataFrame] | None,
    split: Split,
    rule: PromotionRule | None = None,
    *,
    learned: Interactions | None = None,
    latency_ms: float | None = None,
) -> Verdict:
    """Compare a new model with the champion on the validation targets of the same split.

    The champion is evaluated on the challenger's users and items, whatever it was trained on, but
    both without the targets that it has learned. The challenger is promoted if its improvement is
    statistically significant (randomisation test over users) and large enough, or with
    `max_decline` if it is not worse (a non-inferiority test; see Piaggio et al. 2012, "Reporting of
    noninferiority and equivalence randomized trials"), no segment declines, and its latency is
    within budget.

    Args:
        challenger: the new model's report on the validation targets.
        champion: the current model and its catalogue (`item_id`, `title`), if there is one.
        split: the data that the new model was trained on.
        rule: the conditions; by default, those of `PromotionRule()`.
        learned: the interactions that the champion was trained on. They and the targets before
            them are not compared; without any other targets, the challenger is not promoted.
        latency_ms: of the new model, from `measure_latency`; required if there is a budget.

    Raises:
        DataError: the champion is of another catalogue, or the challenger's report is not
            comparable.
        ConfigError: `latency_ms` is missing.
    """
    require_type(challenger, Report, "evaluate")
    require_type(split, Split, "leave_last_out")
    if champion is not None and not _is_model_with_catalogue(champion):
        raise ConfigError(
            f"champion is {shown(champion)}: it must be None, or a model and its catalogue"
        )
    require(PromotionRule | None, rule=rule)
    require(Interactions | None, learned=learned)
    if latency_ms is not None:
        latency_ms = to_number("latency_ms", latency_ms, 0)
    rule = rule or PromotionRule()
    metric, measure = f"{rule.metric}_at_{rule.k}", METRICS[rule.metric]
    values, users = measure(challenger.ranks, rule.k), challenger.users
    average = partial(mean_by_user, over_targets=is_over_targets(split.parameters))
    mean = float(average(values, users).mean())
    failed = []
    if (budget := rule.latency_budget_ms) is not None:
        if latency_ms is None:
            raise ConfigError("latency_budget_ms is set: pass latency_ms, from measure_latency")
        if latency_ms > budget:
            failed.append(f"latency {latency_ms:.3g} ms exceeds latency_budget_ms = {budget:.3g}")
    if champion is None:
        text = "no champion to compare with"
        return Verdict(not failed, mean, None, metric, text, tuple(failed))
    report = _evaluate_champion(*champion, split)
    require_comparable({"challenger": challenger.fingerprint, "champion": report.fingerprint})
    judged, among = _judged_targets(split, learned)
    if not judged.any():
        failed.append("there is no target on which to compare the models")
        return Verdict(False, mean, None, metric, f"not compared{among}", tuple(failed))
    champion_values = measure(report.ranks, rule.k)
    means = [average(each[judged], users[judged]) for each in (values, champion_values)]
    mean, champion_mean = (float(by_user.mean()) for by_user in means)
    differences = values - champion_values
    by_user = average(differences[judged], users[judged])
    improvement, p = float(by_user.mean()), randomization_p(by_user)
    low, high = bootstrap_interval(by_user)
    comparison = (
        f"champion {champion_mean:.4f}, difference {improvement:+.4f} "
        f"(95% interval {low:+.4f} to {high:+.4f}, p = {p:.2g}){among}"
    )
    if n_new := _count_new_items(champion[1], split):
        comparison += f"; the champion does not know {n_new:,} of the items"
    failed += _check_improvement(rule, metric, improvement, p, low)
    if failed and n_new and rule.max_decline is None:
        failed.append("max_decline promotes a model that is not worse, for its new items")
    failed += _check_segments(differences, users, judged, split, rule)
    return Verdict(not failed, mean, champion_mean, metric, comparison, tuple(failed))


def _is_model_with_catalogue(champion: object) -> bool:
    if not isinstance(champion, tuple) or len(champion) != 2:
        return False
    scorer, catalogue = champion
    if not isinstance(scorer, Scorer) or not isinstance(catalogue, pd.DataFrame):
        return False
    return {columns.ITEM_ID, columns.TITLE} <= {*catalogue}


def _check_improvement(
    rule: PromotionRule, metric: str, improvement: float, p: float, low: float
) -> list[str]:
    """Why an improvement with a p-value and a lower end of its interval is not enough, if so."""
    if rule.max_decline is not None:
        if low > -rule.max_decline:
            return []
        return [f"a decline of more than max_decline = {rule.max_decline} cannot be excluded"]
    if improvement <= 0:
        return [f"{metric} did not improve"]
    failed = []
    if p >= rule.alpha:
        failed.append(
            f"the improvement is not statistically significant (p = {p:.2g}, alpha = {rule.alpha})"
        )
    if improvement < rule.min_improvement:
        failed.append(f"the improvement is smaller than min_improvement = {rule.min_improvement}")
    return failed


def _count_new_items(catalogue: pd.DataFrame, split: Split) -> int:
    """How many items of the log a catalogue lacks, held-out ones among them."""
    log = split.interactions
    found = log.items.ids[np.unique(log.item_index)]
    return len(set(found.tolist()) - set(catalogue[columns.ITEM_ID].tolist()))


def _evaluate_champion(scorer: Scorer, catalogue: pd.DataFrame, split: Split) -> Report:
    data = split.interactions
    require_same_catalogue(catalogue, data.catalogue)
    items = Vocabulary(catalogue[columns.ITEM_ID].to_numpy())
    return evaluate(CatalogueAdapter(scorer, items, data.items), split, "validation")


def _judged_targets(split: Split, learned: Interactions | None) -> tuple[NDArray[np.bool_], str]:
    """The targets that the champion has not learned, [n], and how many they are, if not all."""
    rows = split.rows("validation")
    if learned is None:
        return np.ones(len(rows), dtype=np.bool_), ""
    judged = np.isin(rows, split.without_leakage(learned).rows("validation"))
    n = np.count_nonzero(judged)
    if n == len(rows):
        return judged, ""
    return judged, f" on {n:,} of {len(rows):,} targets; the champion has learned the others"


def _check_segments(
    differences: Values,
    users: NDArray[Any],
    judged: NDArray[np.bool_],
    split: Split,
    rule: PromotionRule,
) -> list[str]:
    """Segments whose decline exceeds the margin by the upper end of its confidence interval.

    The level of the intervals is adjusted for the number of segments (Bonferroni).
    """
    average = partial(mean_by_user, over_targets=is_over_targets(split.parameters))
    segments = {
        f"{name} {segment}": average(differences[is_member], users[is_member])
        for name, categorical in segment_targets(split, "validation").items()
        for code, segment in enumerate(categorical.categories)
        if (is_member := judged & (categorical.codes == code)).any()
    }
    checked = {n: values for n, values in segments.items() if len(values) >= rule.min_segment_size}
    level = 1 - 2 * rule.alpha / max(len(checked), 1)
    failed = []
    for name, by_user in checked.items():
        _, high = bootstrap_interval(by_user, level=level)
        if high < -rule.segment_margin:
            metric = f"{rule.metric}_at_{rule.k}"
            failed.append(f"{metric} declines by {-by_user.mean():.4f} for {name}")
    return failed
