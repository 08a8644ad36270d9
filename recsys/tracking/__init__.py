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
from recsys.tracking.registry import (
    BUNDLE,
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
    "fetch_bundle",
    "find_champion",
    "find_finished",
    "learning_curves",
    "mark_inputs",
    "open_run",
    "promote",
    "register",
    "start_run",
    "version_of",
]
