"""How good a model is: full ranking on chronological splits."""

from recsys.evaluation.aligned import CatalogueAdapter
from recsys.evaluation.beyond import beyond_accuracy, diversity, serendipity
from recsys.evaluation.comparison import intervals, paired_differences, significance_table
from recsys.evaluation.factored import DotProductScorer
from recsys.evaluation.latency import measure_latency
from recsys.evaluation.lists import SET_METRICS, Hits, find_hits, set_metrics
from recsys.evaluation.promotion import PRIMARY_METRIC, PromotionRule, Verdict, promote_if_better
from recsys.evaluation.protocol import RankingProtocol, require_comparable
from recsys.evaluation.ranking import Ranking, Scorer, rank, rank_targets, top_items
from recsys.evaluation.report import (
    CUTOFFS,
    TOP_K,
    Report,
    comparison_table,
    evaluate,
    evaluate_metric,
)
from recsys.evaluation.saved import read_report, write_report
from recsys.evaluation.segments import by_segment, segments_of

__all__ = [
    "CUTOFFS",
    "PRIMARY_METRIC",
    "SET_METRICS",
    "TOP_K",
    "CatalogueAdapter",
    "DotProductScorer",
    "Hits",
    "PromotionRule",
    "Ranking",
    "RankingProtocol",
    "Report",
    "Scorer",
    "Verdict",
    "beyond_accuracy",
    "by_segment",
    "comparison_table",
    "diversity",
    "evaluate",
    "evaluate_metric",
    "find_hits",
    "intervals",
    "measure_latency",
    "paired_differences",
    "promote_if_better",
    "rank",
    "rank_targets",
    "read_report",
    "require_comparable",
    "segments_of",
    "serendipity",
    "set_metrics",
    "significance_table",
    "top_items",
    "write_report",
]
