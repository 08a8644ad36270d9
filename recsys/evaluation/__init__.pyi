from .promotion import PRIMARY_METRIC, PromotionRule, Verdict, promote_if_better
from .ranking import CatalogueAdapter, DotProductScorer, Scorer, measure_latency, rank
from .report import (
    Report,
    comparison_table,
    estimate_metric,
    evaluate,
    evaluate_metric,
    read_report,
    write_report,
)
from .segments import segment_metrics, segment_targets
from .statistics import confidence_intervals, significance_table
from .tuning import tune_baseline

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
    "estimate_metric",
    "evaluate",
    "evaluate_metric",
    "measure_latency",
    "promote_if_better",
    "rank",
    "read_report",
    "segment_metrics",
    "segment_targets",
    "significance_table",
    "tune_baseline",
    "write_report",
]
