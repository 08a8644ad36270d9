"""Recording runs and models in MLflow; nothing else in the library imports it."""

from recsys.tracking.registry import BUNDLE, champion_version, fetch_bundle, promote, register
from recsys.tracking.runs import Run, start_run

__all__ = ["BUNDLE", "Run", "champion_version", "fetch_bundle", "promote", "register", "start_run"]
