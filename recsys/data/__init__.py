"""Ratings in: read, check, split; public data sets and synthetic ones."""

from recsys.data.chronological import (
    global_time_cut,
    leave_last_n,
    leave_last_out,
    per_user_ratio,
)
from recsys.data.interactions import Interactions
from recsys.data.read import read_ratings
from recsys.data.split import ColdStart, Split, Target
from recsys.data.validate import DataWarning

__all__ = [
    "ColdStart",
    "DataWarning",
    "Interactions",
    "Split",
    "Target",
    "global_time_cut",
    "leave_last_n",
    "leave_last_out",
    "per_user_ratio",
    "read_ratings",
]
