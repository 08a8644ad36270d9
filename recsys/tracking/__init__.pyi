from .descriptions import describe_data, experiment_name, flatten, run_name
from .journal import PENDING, count_writes, replay
from .registry import (
    ChampionVersion,
    find_champion,
    has_versions,
    log_bundle,
    promote,
    register,
)
from .runs import (
    Run,
    RunReference,
    find_by_inputs,
    finish_run,
    join_run,
    learning_curves,
    open_run,
    start_run,
    tag_data_config,
    tag_inputs,
)
from .store import BUNDLE, fetch_bundle, version_of

__all__ = [
    "BUNDLE",
    "PENDING",
    "ChampionVersion",
    "Run",
    "RunReference",
    "count_writes",
    "describe_data",
    "experiment_name",
    "fetch_bundle",
    "find_by_inputs",
    "find_champion",
    "finish_run",
    "flatten",
    "has_versions",
    "join_run",
    "learning_curves",
    "log_bundle",
    "open_run",
    "promote",
    "register",
    "replay",
    "run_name",
    "start_run",
    "tag_data_config",
    "tag_inputs",
    "version_of",
]
