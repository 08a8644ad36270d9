"""Evaluation of models by full ranking on chronological splits."""

from recsys.evaluation.promotion import PRIMARY_METRIC, PromotionRule, Verdict, promote_if_better
from recsys.evaluation.ranking import (
    CatalogueAdapter,
    DotProductScorer,
    Scorer,
    measure_latency,
    rank,
)
from recsys.evaluation.report import (
    Report,
    comparison_table,
    evaluate,
    evaluate_metric,
    read_report,
    write_report,
)
from recsys.evaluation.segments import segment_metrics, segment_targets
from recsys.evaluation.statistics import confidence_intervals, significance_table

__all__ = [
    "PRIMARY_METRIC",
    "CatalogueAdapter",
    "DotProductScorer",
    "PromotionRule",
    "Report",
    "Scorer",
    "Verdict",
    "comparison_table",
    "confidence_intervals",
    "evaluate",
    "evaluate_metric",
    "measure_latency",
    "promote_if_better",
    "rank",
    "read_report",
    "segment_metrics",
    "segment_targets",
    "significance_table",
    "write_report",
]
