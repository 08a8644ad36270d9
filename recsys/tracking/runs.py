"""Runs as MLflow records them: one per pipeline run, one within it per stage and model."""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NOTE,
)
from pydantic import BaseModel

from recsys.config import Runtime
from recsys.data import Interactions, Split, Subset
from recsys.evaluation import Report
from recsys.tracking import notes
from recsys.tracking.naming import flatten
from recsys.tracking.store import PROCESS_TAG, connect, experiment_id, running
from recsys.tracking.system import system_metrics
from recsys.tracking.tags import context_tags, device_tags, protocol_tags

_FLUSH_SECONDS = 2.0
"""Metrics are sent in batches of this age: one call costs as much for a thousand as for one."""

BY_EPOCH = "epoch"
"""The section of the metrics that are told by epoch."""


class Run:
    """One MLflow run, addressed by its id.

    There is no global "active run", so that runs of several threads cannot be mixed up.
    """

    def __init__(self, client: MlflowClient, experiment: str, run_id: str) -> None:
        self.client = client
        self.experiment = experiment
        self.run_id = run_id
        self._pending: list[Metric] = []
        self._flushed = time.monotonic()

    @contextmanager
    def child(self, name: str) -> Iterator[Run]:
        """A run nested in this one, open for the length of the block."""
        with _open(self.client, self.experiment, name, parent=self.run_id) as run:
            yield run

    def log_config(self, **configs: BaseModel) -> None:
        """Record every field of some configurations, however deep, as `session_model.epochs`."""
        params = [
            Param(name, str(value))
            for stage, config in configs.items()
            for name, value in flatten(stage, config.model_dump(mode="json"))
        ]
        tags: dict[str, str] = {}
        for config in configs.values():
            if isinstance(config, Runtime):  # which may leave the choice to the machine
                tags |= device_tags(config)
        self.client.log_batch(self.run_id, params=params, tags=_tags(tags))

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record single parameters."""
        self.client.log_batch(
            self.run_id, params=[Param(name, str(value)) for name, value in params.items()]
        )

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Record tags, which runs can be searched by."""
        self.client.log_batch(self.run_id, tags=_tags(tags))

    def add_note(self, text: str) -> None:
        """Put a paragraph of Markdown on top of the description, which the UI shows first."""
        before = self.client.get_run(self.run_id).data.tags.get(MLFLOW_RUN_NOTE)
        note = text if before is None else f"{text}\n\n{before}"
        self.client.set_tag(self.run_id, MLFLOW_RUN_NOTE, note)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Record metrics; they reach the store within seconds, or when the run is closed."""
        now = int(time.time() * 1000)
        self._pending += [Metric(name, float(value), now, step) for name, value in metrics.items()]
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of an epoch, as `epoch/train_loss`; a callback for any fit.

        The UI draws what stands before the slash as a section of its own, and draws it first.
        """
        self.log_metrics({f"{BY_EPOCH}/{name}": x for name, x in metrics.items()}, step=epoch)

    def flush(self) -> None:
        """Send the metrics that have gathered."""
        while self._pending:
            batch, self._pending = self._pending[:1000], self._pending[1000:]
            self.client.log_batch(self.run_id, metrics=batch)
        self._flushed = time.monotonic()

    def log_dataset(self, interactions: Interactions, name: str, source: str) -> None:
        """Record what was learned from: name, source, digest and size."""
        rated = interactions.rating is not None
        dataset = Dataset(
            name=name,
            digest=interactions.digest[:36],  # the longest that MLflow takes
            source_type="local",
            source=_json(uri=source),
            profile=_json(
                n_users=interactions.n_users,
                n_items=interactions.n_items,
                n_interactions=len(interactions),
                rated=rated,
            ),
        )
        context = InputTag(MLFLOW_DATASET_CONTEXT, "training")
        self.client.log_inputs(self.run_id, [DatasetInput(dataset, [context])])
        self.set_tags({"data_digest": interactions.digest})

    def log_split(self, split: Split, name: str) -> None:
        """Tell in the description what is learned from and what is held back."""
        self.add_note(notes.of_data(split, name))

    def log_figure(self, figure: Figure, name: str) -> None:
        """Record a picture as `<name>.png`, in no folder: the UI compares none that is in one."""
        self.client.log_figure(self.run_id, figure, f"{name}.png")

    def log_page(self, html: str, name: str) -> None:
        """Record a web page as `<name>.html`, which the UI can show."""
        self.client.log_text(self.run_id, html, f"{name}.html")

    def log_table(self, table: pd.DataFrame, name: str) -> None:
        """Record a table, its index included, as `<name>.json`, which the UI can show."""
        self.client.log_table(self.run_id, table.reset_index(), f"{name}.json")

    def log_comparison(self, table: pd.DataFrame, model: str) -> None:
        """Record `evaluation.comparison_table`; tell in the description how the model did."""
        self.log_table(table, "comparison")
        self.add_note(notes.of_results(table, model))

    def log_reports(self, reports: Mapping[Subset, Report]) -> None:
        """Record a model's metrics, as `test_ndcg_at_10`, every user's rank, and the protocol."""
        self.set_tags(protocol_tags(reports))
        for target, report in reports.items():
            found = {**report.metrics, **report.set_metrics, **report.list_quality}
            self.log_metrics({f"{target}_{name}": x for name, x in found.items()})
            with tempfile.TemporaryDirectory() as folder:
                report.to_frame().to_parquet(Path(folder) / f"{target}.parquet", index=False)
                self.log_folder(Path(folder), "ranks")

    def log_folder(self, folder: Path, name: str) -> None:
        """Record the files of a folder under `name`."""
        self.client.log_artifacts(self.run_id, str(folder), name)


@contextmanager
def start_run(name: str, experiment: str) -> Iterator[Run]:
    """A top-level run, open for the length of the block.

    Runs that a process on this machine left open when it was killed are closed first.
    """
    client = connect(create=True)
    identifier = experiment_id(client, experiment)
    _close_abandoned(client, identifier)
    with _open(client, identifier, name) as run, system_metrics(client.tracking_uri, run.run_id):
        yield run


@contextmanager
def _open(
    client: MlflowClient, experiment: str, name: str, parent: str | None = None
) -> Iterator[Run]:
    tags = {PROCESS_TAG: f"{platform.node()}:{os.getpid()}"}
    if parent:
        tags[MLFLOW_PARENT_RUN_ID] = parent
    created = client.create_run(experiment, run_name=name, tags={**context_tags(), **tags})
    run = Run(client, experiment, created.info.run_id)
    status = "KILLED"  # by an interrupt, which is no Exception
    try:
        yield run
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        run.flush()
        client.set_terminated(run.run_id, status)


def _close_abandoned(client: MlflowClient, experiment: str) -> None:
    for run_id, process in running(client, experiment):
        host, _, pid = process.rpartition(":")
        if host == platform.node() and pid.isdigit() and not _is_alive(int(pid)):
            client.set_terminated(run_id, "KILLED")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, and is someone else's
        return True
    return True


def _json(**content: Any) -> str:
    return json.dumps(content)


def _tags(tags: Mapping[str, str]) -> list[RunTag]:
    return [RunTag(name, value) for name, value in tags.items()]
