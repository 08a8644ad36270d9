"""Recording runs and models in MLflow; nothing else in the library imports it."""

from recsys.tracking.curves import learning_curves
from recsys.tracking.finished import (
    ChampionVersion,
    FinishedRun,
    find_champion,
    find_finished,
    mark_inputs,
    open_run,
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
    "find_champion",
    "find_finished",
    "learning_curves",
    "log_bundle",
    "mark_inputs",
    "open_run",
    "promote",
    "register",
    "run_name",
    "start_run",
    "version_of",
]
