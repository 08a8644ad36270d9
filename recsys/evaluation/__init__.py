"""How good a model is: full ranking on chronological splits."""

from recsys.evaluation.aligned import AlignedScorer
from recsys.evaluation.beyond import beyond_accuracy, diversity, serendipity
from recsys.evaluation.comparison import compare_with, intervals, paired_differences
from recsys.evaluation.factored import FactoredScorer
from recsys.evaluation.latency import measure_latency
from recsys.evaluation.lists import LIST_METRICS, Hits, find_hits, list_metrics
from recsys.evaluation.promotion import METRIC, PromotionRule, Verdict, promote_if_better
from recsys.evaluation.protocol import RankingProtocol, require_comparable
from recsys.evaluation.ranking import Ranking, Scorer, rank, rank_targets, top_items
from recsys.evaluation.report import KS, LISTED, Report, comparison_table, evaluate
from recsys.evaluation.saved import read_report, write_report
from recsys.evaluation.segments import by_segment, segments_of

__all__ = [
    "KS",
    "LISTED",
    "LIST_METRICS",
    "METRIC",
    "AlignedScorer",
    "FactoredScorer",
    "Hits",
    "PromotionRule",
    "Ranking",
    "RankingProtocol",
    "Report",
    "Scorer",
    "Verdict",
    "beyond_accuracy",
    "by_segment",
    "compare_with",
    "comparison_table",
    "diversity",
    "evaluate",
    "find_hits",
    "intervals",
    "list_metrics",
    "measure_latency",
    "paired_differences",
    "promote_if_better",
    "rank",
    "rank_targets",
    "read_report",
    "require_comparable",
    "segments_of",
    "serendipity",
    "top_items",
    "write_report",
]
