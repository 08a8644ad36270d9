"""Ratings in: read, check, split; public data sets and synthetic ones."""

from recsys.data.interactions import Interactions
from recsys.data.read import read_ratings
from recsys.data.split import LeaveLastOut, Target, leave_last_out
from recsys.data.validate import DataWarning

__all__ = [
    "DataWarning",
    "Interactions",
    "LeaveLastOut",
    "Target",
    "leave_last_out",
    "read_ratings",
]
