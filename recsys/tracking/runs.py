"""MLflow runs: one per pipeline run, with a child run for each stage and model."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import psutil
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils import mlflow_tags
from mlflow.utils.git_utils import get_git_commit
from pydantic import BaseModel

from recsys.config import Runtime
from recsys.data import DataConfig, Interactions, Subset
from recsys.errors import TrackingError
from recsys.evaluation import Report
from recsys.storage import installed_versions
from recsys.tracking import descriptions
from recsys.tracking.store import ARTIFACTS, DATABASE, connect, is_local

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FLUSH_SECONDS = 2.0
"""Age at which a batch of metrics is sent: one request costs as much for 1,000 metrics as for 1."""

INPUTS_TAG = "recsys.inputs"
DATA_CONFIG_TAG = "recsys.data_config"
CACHE_TAG = "recsys.cache"
PROCESS_TAG = "recsys.process"
"""Host and process id of the process that records a run."""


@dataclass(eq=False)
class Run:
    """One MLflow run, addressed by its id.

    There is no global active run, so that runs of several threads cannot be mixed up.
    """

    client: MlflowClient
    experiment_id: str
    run_id: str
    _pending: list[Metric] = field(default_factory=list, init=False)
    _flushed_at: float = field(default_factory=time.monotonic, init=False)

    def child(self, name: str) -> AbstractContextManager[Run]:
        """Open a child run for the duration of the block."""
        tags = {mlflow_tags.MLFLOW_PARENT_RUN_ID: self.run_id}
        return _open(self.client, self.experiment_id, name, tags)

    def log_config(self, **configs: BaseModel) -> None:
        """Log every field of the configurations, such as `session_model.epochs`."""
        for stage, config in configs.items():
            self.log_params(dict(descriptions.flatten(stage, config.model_dump(mode="json"))))
            if isinstance(config, Runtime):  # "auto" is resolved on this machine
                device, precision = config.torch_device(), config.torch_precision()
                self.set_tags({"device": str(device), "precision": precision})

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters."""
        self.client.log_batch(self.run_id, params=[Param(k, str(v)) for k, v in params.items()])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, by which runs can be searched."""
        self.client.log_batch(self.run_id, tags=[RunTag(k, v) for k, v in tags.items()])

    def tag_cache(self, folder: Path) -> None:
        """Record the folder of the run's cached result, so that `gc` keeps it with the run."""
        self.set_tags({CACHE_TAG: folder.as_posix()})

    def add_note(self, text: str) -> None:
        """Add a paragraph of Markdown at the top of the description."""
        note = self.client.get_run(self.run_id).data.tags.get(mlflow_tags.MLFLOW_RUN_NOTE)
        self.set_tags({mlflow_tags.MLFLOW_RUN_NOTE: text if note is None else f"{text}\n\n{note}"})

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log metrics. They reach the store within seconds, or when the run ends."""
        now = int(time.time() * 1000)
        self._pending += [Metric(name, float(value), now, step) for name, value in metrics.items()]
        if time.monotonic() - self._flushed_at > _FLUSH_SECONDS:
            self.flush()

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of an epoch, such as `epoch/train_loss`; an `EpochCallback`.

        The UI groups charts by the part of the name before the slash.
        """
        self.log_metrics({f"epoch/{name}": x for name, x in metrics.items()}, epoch)

    def flush(self) -> None:
        """Send all pending metrics."""
        while self._pending:
            batch, self._pending = self._pending[:1000], self._pending[1000:]  # MLflow's maximum
            self.client.log_batch(self.run_id, metrics=batch)
        self._flushed_at = time.monotonic()

    def log_dataset(self, interactions: Interactions, name: str, source: str) -> None:
        """Log the training data: name, source, digest and size."""
        profile = {
            "n_users": interactions.n_users,
            "n_items": interactions.n_items,
            "n_interactions": len(interactions),
            "rated": interactions.rating is not None,
        }
        digest = interactions.digest[:36]  # MLflow's maximum length
        source = json.dumps({"uri": source})
        dataset = Dataset(name, digest, "local", source, profile=json.dumps(profile))
        context = InputTag(mlflow_tags.MLFLOW_DATASET_CONTEXT, "training")
        self.client.log_inputs(self.run_id, [DatasetInput(dataset, [context])])
        self.set_tags({"data_digest": interactions.digest})

    def log_figure(self, figure: Figure, name: str) -> None:
        """Log a figure as `<name>.png`. The UI compares images only at the top level."""
        self.client.log_figure(self.run_id, figure, f"{name}.png")

    def log_html(self, html: str, name: str) -> None:
        """Log a web page as `<name>.html`."""
        self.client.log_text(self.run_id, html, f"{name}.html")

    def log_json(self, value: Mapping[str, Any], name: str) -> None:
        """Log a value as a JSON file."""
        self.client.log_dict(self.run_id, dict(value), f"{name}.json")

    def log_table(self, table: pd.DataFrame, name: str) -> None:
        """Log a table with its index as `<name>.json`."""
        self.client.log_table(self.run_id, table.reset_index(), f"{name}.json")

    def log_comparison(self, table: pd.DataFrame, model: str) -> None:
        """Log `evaluation.comparison_table` and describe the rank of a model in it."""
        self.log_table(table, "comparison")
        self.add_note(descriptions.describe_results(table, model))

    def log_reports(self, reports: Mapping[Subset, Report]) -> None:
        """Log metrics such as `test_ndcg_at_10`, the rank of every user, and the protocol."""
        fingerprints = {subset: dict(report.fingerprint) for subset, report in reports.items()}
        protocol = str(next(iter(fingerprints.values()))["protocol"])
        serialized = json.dumps(fingerprints, sort_keys=True).encode()
        digest = hashlib.sha256(serialized).hexdigest()[:16]
        self.set_tags({"protocol": protocol, "protocol_fingerprint": digest})
        with tempfile.TemporaryDirectory() as folder:
            for subset, report in reports.items():
                values = {**report.metrics, **report.set_metrics, **report.list_quality}
                self.log_metrics({f"{subset}_{name}": round(x, 6) for name, x in values.items()})
                report.to_frame().to_parquet(Path(folder) / f"{subset}.parquet", index=False)
            self.client.log_artifacts(self.run_id, folder, "ranks")


@contextmanager
def start_run(name: str, experiment: str) -> Iterator[Run]:
    """Open a top-level run for the duration of the block.

    Runs left open by killed processes of this machine are closed first. If
    `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING` is true, the load of the machine is logged too, every
    `MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL` seconds.

    Raises:
        TrackingError: the experiment was deleted.
    """
    client = connect(create=True)
    experiment_id = get_or_create_experiment(client, experiment)
    _close_abandoned(client)
    with _open(client, experiment_id, name, {}) as run, ExitStack() as stack:
        if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
            monitor = SystemMetricsMonitor(run.run_id, tracking_uri=client.tracking_uri)
            monitor.start()
            stack.callback(monitor.finish)
        yield run


def open_run(run_id: str) -> Run:
    """Return a run started elsewhere, such as in another process. It is not ended here."""
    client = connect()
    return Run(client, client.get_run(run_id).info.experiment_id, run_id)


@contextmanager
def _open(
    client: MlflowClient, experiment_id: str, name: str, tags: Mapping[str, str]
) -> Iterator[Run]:
    process = {PROCESS_TAG: f"{platform.node()}:{os.getpid()}"}
    tags = {**_program_tags(), **resolve_tags(), **process, **tags}
    created = client.create_run(experiment_id, run_name=name, tags=tags)
    run = Run(client, experiment_id, created.info.run_id)
    status = "KILLED"  # by an interrupt, which is not an Exception
    try:
        yield run
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        run.flush()
        client.set_terminated(run.run_id, status)


def get_or_create_experiment(client: MlflowClient, name: str) -> str:
    """Return the id of an experiment, which is created if it does not exist."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        location = (DATABASE.parent / ARTIFACTS).resolve().as_uri() if is_local() else None
        # Another process may create it at the same time.
        with suppress(MlflowException):
            created = client.create_experiment(name, artifact_location=location)
            for tag, value in descriptions.experiment_tags(created).items():
                client.set_experiment_tag(created, tag, value)
            return created
        experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"experiment {name!r} cannot be used (was it deleted?): "
            "restore it in MLflow or choose another name"
        )
    return str(experiment.experiment_id)


def _close_abandoned(client: MlflowClient) -> None:
    """Mark runs as killed whose process on this machine no longer exists."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for run in client.search_runs(experiments, "attributes.status = 'RUNNING'"):
        host, _, pid = run.data.tags.get(PROCESS_TAG, "").rpartition(":")
        if host == platform.node() and pid.isdigit() and not _is_alive(int(pid), run):
            client.set_terminated(run.info.run_id, "KILLED")


def _is_alive(pid: int, run: MlflowRun) -> bool:
    """Whether the process that recorded a run exists; its id may belong to a later process."""
    try:
        return bool(1000 * psutil.Process(pid).create_time() <= run.info.start_time)
    except psutil.NoSuchProcess:
        return False


@cache
def _program_tags() -> dict[str, str]:
    """The commit of this program and the versions of its libraries."""
    libraries = ("recsys-pipeline", "torch", "numpy", "scipy", "pandas", "mlflow")
    versions = {"python": platform.python_version(), **installed_versions(*libraries)}
    tags = {f"version.{name}": version for name, version in versions.items()}
    # By itself, MLflow looks for the commit of the started script, such as Prefect's worker.
    if commit := get_git_commit(__file__):
        tags[mlflow_tags.MLFLOW_GIT_COMMIT] = commit
    return tags


def tag_inputs(run: Run, digest: str) -> None:
    """Tag a run with the digest of its data and settings, for `find_by_inputs`."""
    run.set_tags({INPUTS_TAG: digest})


def tag_data_config(run: Run, config: DataConfig) -> None:
    """Record how the data of a run is read, so that later runs read it in the same way."""
    run.set_tags({DATA_CONFIG_TAG: config.model_dump_json()})


def finish_run(run_id: str) -> None:
    """Mark a run as finished whose process was killed after all its work was done."""
    connect().set_terminated(run_id, "FINISHED")


def find_by_inputs(digest: str) -> tuple[str, dict[str, float]] | None:
    """Return id and metrics of the latest finished run with these inputs; None if there is none."""
    client = connect(create=True)
    runs = client.search_runs(
        [experiment.experiment_id for experiment in client.search_experiments()],
        f"attributes.status = 'FINISHED' and tags.`{INPUTS_TAG}` = '{digest}'",
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    return (runs[0].info.run_id, dict(runs[0].data.metrics)) if runs else None


def learning_curves(run: Run) -> dict[str, dict[str, list[float]]]:
    """Return the per-epoch metrics of the child runs, as `["lstm"]["train_loss"]`."""
    children = run.client.search_runs(
        [run.experiment_id],
        f"tags.`{mlflow_tags.MLFLOW_PARENT_RUN_ID}` = '{run.run_id}'",
        order_by=["start_time"],
    )
    curves: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for child, name in itertools.product(children, ("relative_loss", "train_loss", "ndcg_at_10")):
        if f"epoch/{name}" in child.data.metrics:
            history = run.client.get_metric_history(child.info.run_id, f"epoch/{name}")
            values = [point.value for point in sorted(history, key=lambda point: point.step)]
            if len(values) > 1:
                curves[str(child.info.run_name)][name] = values
    return dict(curves)
