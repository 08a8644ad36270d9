"""How good a model is: full ranking on chronological splits."""

from recsys.evaluation.aligned import AlignedScorer
from recsys.evaluation.promotion import Verdict, challenge
from recsys.evaluation.ranking import Scorer, rank_targets
from recsys.evaluation.report import KS, Report, comparison_table, evaluate

__all__ = [
    "KS",
    "AlignedScorer",
    "Report",
    "Scorer",
    "Verdict",
    "challenge",
    "comparison_table",
    "evaluate",
    "rank_targets",
]
