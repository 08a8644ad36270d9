"""MLflow runs: one per pipeline run, with a child run for each stage and model."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import psutil
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.entities import Run as MlflowRun
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils import mlflow_tags
from mlflow.utils.git_utils import get_git_commit
from pydantic import BaseModel

from recsys.config import Runtime
from recsys.data import DataConfig, Interactions, Subset
from recsys.errors import NetworkError, StorageError
from recsys.evaluation import PromotionRule, Report
from recsys.storage import installed_versions, writing
from recsys.tracking import descriptions
from recsys.tracking.journal import Point, Recorder
from recsys.tracking.store import connect

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FLUSH_SECONDS = 2.0
"""Age at which a batch of metrics is sent: one request costs as much for 1,000 metrics as for 1."""

_CURVES = {"relative_loss", "train_loss", "ndcg_at_10"}
"""Metrics of an epoch that the report page shows."""

INPUTS_TAG = "recsys.inputs"
RULE_TAG = "recsys.promotion_rule"
DATA_CONFIG_TAG = "recsys.data_config"
CACHE_TAG = "recsys.cache"
PROCESS_TAG = "recsys.process"
"""Host and process id of the process that records a run."""


class RunReference(NamedTuple):
    """What another process needs to open child runs of a run, with `join_run`."""

    run_id: str
    experiment: str
    pending: Path | None


class Run:
    """One MLflow run, addressed by its id.

    There is no global active run, so that runs of several threads cannot be mixed up. It is no
    dataclass: Prefect would iterate over its fields when a task begins, while another thread adds
    a child run.
    """

    def __init__(self, recorder: Recorder, run_id: str, note: str | None = None) -> None:
        self.recorder = recorder
        self.run_id = run_id
        self.children: dict[str, Run] = {}
        self.curves: dict[str, dict[int, float]] = {}
        """Metrics by epoch."""
        self._note = note
        self._points: list[Point] = []
        self._flushed_at = time.monotonic()
        self._tables: list[dict[str, str]] = []

    @property
    def client(self) -> MlflowClient:
        """A client for the store; raises a `NetworkError` once the store did not answer."""
        return self.recorder.client

    @property
    def pending(self) -> Path | None:
        """The folder of what the store did not take; None if it has all, from all processes."""
        recorder, folder = self.recorder, self.recorder.folder
        has_waiting = recorder.error is not None or (folder is not None and folder.exists())
        return folder if has_waiting else None

    @property
    def reference(self) -> RunReference:
        """The run, for `join_run` in another process."""
        return RunReference(self.run_id, self.recorder.experiment, self.recorder.folder)

    @property
    def experiment_id(self) -> str:
        """The id of the run's experiment."""
        return self.recorder.experiment_id

    @contextmanager
    def child(self, name: str) -> Iterator[Run]:
        """Open a child run for the duration of the block."""
        tags = {mlflow_tags.MLFLOW_PARENT_RUN_ID: self.run_id}
        with _open(self.recorder, name, tags) as child:
            self.children[name] = child
            yield child

    def log_config(self, **configs: BaseModel) -> None:
        """Log every field of the configurations, such as `session_model.epochs`."""
        for stage, config in configs.items():
            self.log_params(dict(descriptions.flatten(stage, config.model_dump(mode="json"))))
        self._tag_device(configs)

    def log_main_settings(self, **configs: BaseModel) -> None:
        """Log the fields that are changed most often, and those that are not defaults."""
        self.log_params(descriptions.main_settings(configs))
        self._tag_device(configs)

    def _tag_device(self, configs: Mapping[str, BaseModel]) -> None:
        for config in configs.values():
            if isinstance(config, Runtime):  # "auto" is resolved on this machine
                device, precision = config.torch_device(), config.torch_precision()
                self.set_tags({"device": str(device), "precision": precision})

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters."""
        values = {name: str(value) for name, value in params.items()}
        self.recorder.write(self.run_id, "log_batch", params=values)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, by which runs can be searched."""
        self.recorder.write(self.run_id, "log_batch", tags=dict(tags))

    def tag_cache(self, folder: Path) -> None:
        """Record the folder of the run's cached result, so that `gc` keeps it with the run."""
        self.set_tags({CACHE_TAG: folder.as_posix()})

    def add_note(self, text: str) -> None:
        """Add a paragraph of Markdown at the top of the description."""
        self._note = text if self._note is None else f"{text}\n\n{self._note}"
        self.set_tags({mlflow_tags.MLFLOW_RUN_NOTE: self._note})

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log metrics with six decimals. They reach the store in seconds, or when the run ends."""
        now = int(time.time() * 1000)
        self._points += [(name, round(float(x), 6), now, step) for name, x in metrics.items()]
        if time.monotonic() - self._flushed_at > _FLUSH_SECONDS:
            self.flush()

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of an epoch, such as `epoch/train_loss`; an `EpochCallback`.

        The UI groups charts by the part of the name before the slash.
        """
        self.log_metrics({f"epoch/{name}": x for name, x in metrics.items()}, epoch)
        for name, value in metrics.items():
            self.curves.setdefault(name, {})[epoch] = float(value)

    def flush(self) -> None:
        """Send all pending metrics."""
        while self._points:
            batch, self._points = self._points[:1000], self._points[1000:]  # MLflow's maximum
            self.recorder.write(self.run_id, "log_batch", metrics=batch)
        self._flushed_at = time.monotonic()

    def log_dataset(self, interactions: Interactions, name: str, source: str) -> None:
        """Log the training data: name, source, digest and size."""
        profile = {
            "n_users": interactions.n_users,
            "n_items": interactions.n_items,
            "n_interactions": len(interactions),
            "rated": interactions.rating is not None,
        }
        self.recorder.write(
            self.run_id,
            "log_dataset",
            name=name,
            digest=interactions.digest[:36],  # MLflow's maximum length
            source=json.dumps({"uri": source}),
            profile=json.dumps(profile),
        )
        self.set_tags({"data_digest": interactions.digest})

    @contextmanager
    def _files(self, path: str | None = None) -> Iterator[Path]:
        """A temporary folder, whose files are logged at the end of the block."""
        with tempfile.TemporaryDirectory() as folder:
            with writing(folder):
                yield Path(folder)
            self.recorder.write(self.run_id, "log_files", folder=folder, path=path)

    def log_figure(self, figure: Figure, name: str) -> None:
        """Log a figure as `<name>.png`. The UI compares images only at the top level."""
        with self._files() as folder:
            figure.savefig(folder / f"{name}.png")

    def log_html(self, html: str, name: str) -> None:
        """Log a web page as `<name>.html`."""
        with self._files() as folder:
            (folder / f"{name}.html").write_text(html, encoding="utf-8")

    def log_json(self, value: Mapping[str, Any], name: str) -> None:
        """Log a value as a JSON file."""
        with self._files() as folder:
            (folder / f"{name}.json").write_text(json.dumps(value, indent=2), encoding="utf-8")

    def log_table(self, table: pd.DataFrame, name: str) -> None:
        """Log a table with its index as `<name>.json`, which the UI shows as a table."""
        with self._files() as folder:
            table.reset_index().to_json(
                folder / f"{name}.json", orient="split", index=False, date_format="iso"
            )
        self._tables.append({"path": f"{name}.json", "type": "table"})
        self.set_tags({mlflow_tags.MLFLOW_LOGGED_ARTIFACTS: json.dumps(self._tables)})

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
        with self._files("ranks") as folder:
            for subset, report in reports.items():
                values = {**report.metrics, **report.set_metrics, **report.list_quality}
                self.log_metrics({f"{subset}_{name}": x for name, x in values.items()})
                report.to_frame().to_parquet(folder / f"{subset}.parquet", index=False)


@contextmanager
def start_run(name: str, experiment: str, pending: Path | None = None) -> Iterator[Run]:
    """Open a top-level run for the duration of the block.

    Runs left open by killed processes of this machine are closed first. If
    `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING` is true, the load of the machine is logged too, every
    `MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL` seconds.

    Args:
        name: the name of the run.
        experiment: the name of the experiment.
        pending: a new folder. From when on the store does not answer, the run is written to it.

    Raises:
        TrackingError: the experiment was deleted.
        NetworkError: the store does not answer, and there is no folder for what it did not take.
    """
    recorder = Recorder(experiment, pending)
    try:
        _close_abandoned(recorder.client)
    except NetworkError as error:
        recorder.defer(error)
    with _open(recorder, name, {}) as run, ExitStack() as stack:
        if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get() and recorder.error is None:
            monitor = SystemMetricsMonitor(run.run_id, tracking_uri=run.client.tracking_uri)
            monitor.start()
            stack.callback(monitor.finish)
        yield run


def open_run(run_id: str) -> Run:
    """Return a run started elsewhere, such as in another process. It is not ended here."""
    client = connect()
    found = client.get_run(run_id)
    experiment = client.get_experiment(found.info.experiment_id).name
    note = found.data.tags.get(mlflow_tags.MLFLOW_RUN_NOTE)
    return Run(Recorder(experiment), run_id, note)


def join_run(reference: RunReference) -> Run:
    """Return a run that another process has started, to open child runs of it.

    If the store did not answer a process of the run, which has created the folder of what waits,
    all writes go to this folder.
    """
    run_id, experiment, pending = reference
    recorder = Recorder(experiment, pending)
    if pending is not None and pending.exists():
        recorder.error = NetworkError("the store did not answer another process of this run")
    return Run(recorder, run_id)


@contextmanager
def _open(recorder: Recorder, name: str, tags: Mapping[str, str]) -> Iterator[Run]:
    process = {PROCESS_TAG: f"{platform.node()}:{os.getpid()}"}
    tags = {**_program_tags(), **resolve_tags(), **process, **tags}
    run = Run(recorder, recorder.create_run(name, tags))
    status = "KILLED"  # by an interrupt, which is not an Exception
    try:
        yield run
        run.flush()
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        # A store that failed the block may fail again: the first error is the one to report.
        with suppress(NetworkError, StorageError) if status != "FINISHED" else nullcontext():
            run.flush()
            recorder.write(run.run_id, "end", status=status, time=int(time.time() * 1000))


def _close_abandoned(client: MlflowClient) -> None:
    """Mark runs as killed whose process on this machine no longer exists."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for run in client.search_runs(experiments, "attributes.status = 'RUNNING'"):
        host, _, pid = run.data.tags.get(PROCESS_TAG, "").rpartition(":")
        if host == platform.node() and pid.isdigit() and not _is_alive(int(pid), run):
            remove_incomplete_models(client, run)
            client.set_terminated(run.info.run_id, "KILLED")


def remove_incomplete_models(client: MlflowClient, run: MlflowRun) -> None:
    """Remove the models that a run began to store. MLflow leaves them PENDING for ever."""
    found = client.search_logged_models(
        [run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"
    )
    for model in found:
        if model.status == LoggedModelStatus.PENDING:
            with suppress(MlflowException, OSError):  # its files, if there are any
                get_artifact_repository(model.artifact_location).delete_artifacts()
            client.delete_logged_model(model.model_id)


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


def tag_inputs(run: Run, digest: str, rule: PromotionRule) -> None:
    """Tag a run with the digest of its data and its promotion rule, for `find_by_inputs`."""
    run.set_tags({INPUTS_TAG: digest, RULE_TAG: rule.model_dump_json()})


def tag_data_config(run: Run, config: DataConfig) -> None:
    """Record how the data of a run is read, so that later runs read it in the same way."""
    run.set_tags({DATA_CONFIG_TAG: config.model_dump_json()})


def finish_run(run_id: str) -> None:
    """Mark a run as finished whose process was killed after all its work was done."""
    connect().set_terminated(run_id, "FINISHED")


def find_by_inputs(digest: str) -> tuple[str, str | None] | None:
    """Find the latest finished run with these inputs.

    Returns:
        Its id and its promotion rule as JSON, or None if it recorded none; None if there is no run.
    """
    client = connect(create=True)
    runs = client.search_runs(
        [experiment.experiment_id for experiment in client.search_experiments()],
        f"attributes.status = 'FINISHED' and tags.`{INPUTS_TAG}` = '{digest}'",
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    return (runs[0].info.run_id, runs[0].data.tags.get(RULE_TAG)) if runs else None


def learning_curves(run: Run) -> dict[str, dict[str, list[float]]]:
    """Return the per-epoch metrics of the child runs, as `["lstm"]["train_loss"]`."""
    curves: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for name, child in run.children.items():
        for metric in _CURVES & child.curves.keys():
            by_epoch = child.curves[metric]
            if len(by_epoch) > 1:
                curves[name][metric] = [by_epoch[epoch] for epoch in sorted(by_epoch)]
    return dict(curves)
