"""Texts of the MLflow UI: names of experiments and runs, descriptions, and the page's table."""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE  # the same tag describes an experiment
from pydantic import BaseModel

from recsys.config import CHAMPION_ALIAS
from recsys.data import DataConfig, Split

_MAIN_STAGE = "session_model"
"""The stage that is tuned most: in run names, its settings have no prefix."""

_METRICS = ("HitRate@10", "NDCG@10", "MRR@10")
_SESSION_METRICS = ("Recall@20", "NDCG@10", "MRR@20")
"""The metrics in the table of a run's description, and those where sessions are held out."""

_RANK_BY = "NDCG@10"


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
    """Name a run by its kind, its settings that are not defaults, and the present time.

    Example:
        >>> from recsys.config import Runtime
        >>> run_name("train", {"runtime": Runtime(seed=3)})  # doctest: +ELLIPSIS
        'train runtime.seed=3 · ...:...'
    """
    changes = [
        f"{name.removeprefix(f'{_MAIN_STAGE}.')}={value}"
        for stage, config in configs.items()
        for name, value in flatten(stage, config.model_dump(mode="json", exclude_defaults=True))
    ]
    start = datetime.now().astimezone()
    return f"{' '.join([kind, *changes])} · {start.day} {start:%b %H:%M}"


def flatten(prefix: str, fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Iterate over nested fields, with names such as `session_model.epochs`."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from flatten(f"{prefix}.{name}", value)
        else:
            yield f"{prefix}.{name}", value


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
    runs = f"#/experiments/{experiment_id}/runs"
    note = (
        f"[Results]({runs}?viewStateShareKey=results) (the saved view), "
        f"[learning curves]({runs}?compareRunsMode=CHART). Open a run to read its description; "
        "select several and press Compare to see how they differ."
    )
    state = {
        "orderByKey": "attributes.start_time",  # a metric would also list child runs
        "orderByAsc": False,
        "selectedColumns": [
            "attributes.`Models`",
            "metrics.`validation_ndcg_at_10`",
            "metrics.`test_ndcg_at_10`",
            "metrics.`test_hit_rate_at_10`",
            f"params.`{_MAIN_STAGE}.learning_rate`",
        ],
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
