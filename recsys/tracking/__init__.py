"""Recording runs and models in MLflow; nothing else in the library imports it."""

from recsys.tracking.curves import learning_curves
from recsys.tracking.finished import (
    ChampionVersion,
    FinishedRun,
    find_by_inputs,
    find_champion,
    open_run,
    tag_inputs,
)
from recsys.tracking.models import BUNDLE, log_bundle
from recsys.tracking.naming import experiment_name, run_name
from recsys.tracking.registry import (
    champion_version,
    fetch_bundle,
    promote,
    register,
    version_of,
)
from recsys.tracking.runs import Run, start_run

__all__ = [
    "BUNDLE",
    "ChampionVersion",
    "FinishedRun",
    "Run",
    "champion_version",
    "experiment_name",
    "fetch_bundle",
    "find_by_inputs",
    "find_champion",
    "learning_curves",
    "log_bundle",
    "open_run",
    "promote",
    "register",
    "run_name",
    "start_run",
    "tag_inputs",
    "version_of",
]
