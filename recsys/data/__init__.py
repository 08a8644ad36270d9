"""Ratings in: read, check, filter, split; public data sets and synthetic ones."""

from recsys.data.chronological import (
    global_time_cut,
    leave_last_n,
    leave_last_out,
    per_user_ratio,
)
from recsys.data.config import ReadingConfig
from recsys.data.filters import FilterReport, k_core, rated_at_least, time_window
from recsys.data.interactions import Interactions
from recsys.data.reading import Checks, DataWarning, Finding, ReadReport, read_ratings
from recsys.data.split import ColdStart, Split, Target
from recsys.data.stored import load_interactions, save_interactions

__all__ = [
    "Checks",
    "ColdStart",
    "DataWarning",
    "FilterReport",
    "Finding",
    "Interactions",
    "ReadReport",
    "ReadingConfig",
    "Split",
    "Target",
    "global_time_cut",
    "k_core",
    "leave_last_n",
    "leave_last_out",
    "load_interactions",
    "per_user_ratio",
    "rated_at_least",
    "read_ratings",
    "save_interactions",
    "time_window",
]
