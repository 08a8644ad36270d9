"""Texts of the MLflow UI: names of experiments and runs, descriptions, and the page's table."""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE  # the same tag describes an experiment
from pydantic import BaseModel

from recsys.config import CHAMPION_ALIAS
from recsys.data import DataConfig, Split

CHAMPION_TAG = "champion"
"""Tag of the run of the champion, a column of the list of runs."""

_MAIN_STAGE = "session_model"
"""The stage that is tuned most: in run names, its settings come first and have no prefix."""

_MAIN_SETTINGS = (
    *("data.split.method", "cooccurrence.min_rating", "embeddings.dim", "embeddings.optimizer"),
    *(f"session_model.{name}" for name in ("cell", "embedding_dim", "hidden_dim")),
    *("session_model.epochs", "session_model.learning_rate", "runtime.seed"),
)
"""Settings that top-level runs record even if they are defaults."""

_METRICS = ("HitRate@10", "NDCG@10", "MRR@10")
_SESSION_METRICS = ("Recall@20", "NDCG@10", "MRR@20")
"""The metrics in the table of a run's description, and those where sessions are held out."""

_RANK_BY = "NDCG@10"

_LIST_COLUMNS = {
    "attributes.`Run Name`": 320,
    f"tags.`{CHAMPION_TAG}`": 150,
    "metrics.`validation_ndcg_at_10`": 175,
    "metrics.`test_ndcg_at_10`": 140,
    "metrics.`test_hit_rate_at_10`": 150,
    "attributes.`Models`": 130,
    "runDateAndNestInfo": 130,
    "duration": 90,
}
"""The columns of the list of runs, by MLflow's name, and their width in pixels."""


def experiment_name(source: str, config: DataConfig) -> str:
    """Name the experiment of a data set and protocol. Runs in one experiment are comparable.

    Example:
        >>> from recsys.data.config import Filters, LeaveLastN
        >>> fewer = DataConfig(split=LeaveLastN(n=2), filters=Filters(min_user_interactions=5))
        >>> experiment_name("ratings.csv", fewer)
        'ratings.csv, leave-last-n n=2 min_user_interactions=5'
    """
    split = config.split.model_dump(mode="json")
    method = split.pop("method").replace("_", "-")
    filters = config.filters.model_dump(mode="json", exclude_defaults=True)
    options = [f"{name}={value}" for name, value in (split | filters).items()]
    return f"{Path(source).resolve().name}, {' '.join([method, *options])}"


def run_name(kind: str, configs: Mapping[str, BaseModel]) -> str:
    """Name a run by its settings that are not defaults, its kind, and the present time.

    The settings come first because the UI cuts long names off. The stage is stated only if other
    stages have a setting of the same name.

    Example:
        >>> from recsys.config import Runtime
        >>> run_name("train", {"runtime": Runtime(seed=3)})  # doctest: +ELLIPSIS
        'seed=3 · train ...:...'
    """
    all_settings = {stage: _settings(config) for stage, config in configs.items()}
    known = Counter(name for settings in all_settings.values() for name in settings)
    changes = [
        f"{name if known[name] == 1 or stage == _MAIN_STAGE else f'{stage}.{name}'}={value}"
        for stage in sorted(configs, key=lambda stage: stage != _MAIN_STAGE)
        for name, value in _settings(configs[stage], exclude_defaults=True).items()
    ]
    start = datetime.now().astimezone()
    return " · ".join(
        [*([" ".join(changes)] if changes else []), f"{kind} {start.day} {start:%b %H:%M}"]
    )


def main_settings(configs: Mapping[str, BaseModel]) -> dict[str, Any]:
    """The settings that are changed most often, and all others that are not defaults.

    Without those that depend on the data: a parameter is recorded once, when it is known.
    """
    return {
        f"{stage}.{name}": value
        for stage, config in configs.items()
        for changed in [_settings(config, exclude_defaults=True)]
        for name, value in _settings(config).items()
        if name in changed or (f"{stage}.{name}" in _MAIN_SETTINGS and value is not None)
    }


def _settings(config: BaseModel, *, exclude_defaults: bool = False) -> dict[str, Any]:
    return dict(flatten("", config.model_dump(mode="json", exclude_defaults=exclude_defaults)))


def flatten(prefix: str, fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Iterate over nested fields, with names such as `session_model.epochs`."""
    for name, value in fields.items():
        path = f"{prefix}.{name}" if prefix else name
        if isinstance(value, Mapping):
            yield from flatten(path, value)
        else:
            yield path, value


def describe_data(split: Split, name: str) -> str:
    """Describe the training data and the held-out targets."""
    data = split.interactions
    n_validation, n_test = len(split.rows("validation")), len(split.rows("test"))
    return (
        f"**Data**: {name}, {data.n_users:,} {data.histories}s, {data.n_items:,} items, "
        f"{len(data):,} interactions, digest `{data.digest[:12]}`. {split.protocol}: "
        f"{n_validation:,} validation and {n_test:,} test targets."
    )


def describe_results(table: pd.DataFrame, model: str) -> str:
    """Describe the rank of a model in `evaluation.comparison_table`, and show the table."""
    rank = list(table.index).index(model) + 1
    position = f"the best of {len(table)}" if rank == 1 else f"number {rank} of {len(table)}"
    sentence = f"**Result**: {model}, {position} by {_RANK_BY} on the test targets"
    competitors = table.drop(index=model)
    if len(competitors):
        sentence += f"; {competitors.index[0]} has {competitors[_RANK_BY].iloc[0]:.4f}"
    wanted = _SESSION_METRICS if _SESSION_METRICS[0] in table else _METRICS
    shown = [name for name in wanted if name in table]
    rows = [["model", *shown], ["---"] * (1 + len(shown))]
    for name, values in table[shown].iterrows():
        mark = "**" if name == model else ""
        cells = [str(name), *(f"{value:.4f}" for value in values)]
        rows.append([f"{mark}{cell}{mark}" for cell in cells])
    return "\n".join([f"{sentence}.", "", *(f"| {' | '.join(row)} |" for row in rows)])


def describe_model(model_name: str) -> str:
    """Describe a registered model and its use."""
    uri = f"models:/{model_name}@{CHAMPION_ALIAS}"
    return (
        f"Recommends the next items of a history, and items similar to another. In Python: "
        f'`recsys.load_recommender("{uri}")`. Over HTTP: `mlflow models serve -m {uri} '
        "--env-manager local`. The version in use has the alias `champion`, the latest other "
        "version `challenger`; the description of each version states why."
    )


def experiment_tags(experiment_id: str) -> dict[str, str]:
    """Tags that give an experiment's page a description and a saved view of the results.

    MLflow keeps saved views as tags. Without one, the list of runs shows no metrics.
    """
    # Without the type, MLflow shows the menu for language models.
    runs = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    note = (
        f"[Results]({runs}&viewStateShareKey=results) (the saved view), "
        f"[learning curves]({runs}&compareRunsMode=CHART). "
        "Select several runs and press Compare."
    )
    state = {
        "orderByKey": "attributes.start_time",  # a metric would also list child runs
        "orderByAsc": False,
        "selectedColumns": [name for name in _LIST_COLUMNS if "." in name],
        "columnOrder": list(_LIST_COLUMNS),
        "columnWidths": _LIST_COLUMNS,
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    now = int(time.time() * 1000)
    view = {"name": "Results", "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"}
    return {
        MLFLOW_RUN_NOTE: note,
        "mlflow.sharedViewState.results": json.dumps(view),
        # Show the pages for model training, not those for language models.
        "mlflow.experimentKind": "custom_model_development",
    }
