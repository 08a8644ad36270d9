from .config import DataConfig
from .filters import FilterReport, k_core, min_rating, time_window
from .interactions import Interactions, load_interactions, save_interactions
from .profile import LogProfile
from .read import read_ratings
from .report import DataWarning, Finding, ReadReport
from .splitters import (
    ColdStart,
    Split,
    Subset,
    global_time_cut,
    last_days,
    last_session,
    leave_last_n,
    leave_last_out,
    per_user_ratio,
)
from .validation import Checks

__all__ = [
    "Checks",
    "ColdStart",
    "DataConfig",
    "DataWarning",
    "FilterReport",
    "Finding",
    "Interactions",
    "LogProfile",
    "ReadReport",
    "Split",
    "Subset",
    "global_time_cut",
    "k_core",
    "last_days",
    "last_session",
    "leave_last_n",
    "leave_last_out",
    "load_interactions",
    "min_rating",
    "per_user_ratio",
    "read_ratings",
    "save_interactions",
    "time_window",
]
