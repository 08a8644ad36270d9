"""The writes of a run: sent to the store, or kept in a folder until the store answers.

A folder of `mlflow/pending` holds `journal.jsonl`, one write a line, and the files that were
logged. `replay` sends them, in their order and with their times. Each line has a SHA-256 of its own
and the files have manifests, so that nothing damaged is sent.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils import mlflow_tags

from recsys.errors import NetworkError, TrackingError
from recsys.storage import (
    atomic_folder,
    read_json,
    verify_manifest,
    with_digest,
    write_json,
    write_manifest,
    writing,
)
from recsys.tracking import descriptions
from recsys.tracking.store import ARTIFACTS, DATABASE, connect, is_local

_LOGGER = logging.getLogger(__name__)

PENDING = DATABASE.parent / "pending"
"""The folder of the runs that wait for the store to answer."""

_JOURNAL, _RUN_IDS, _FILES = "journal.jsonl", "run_ids.json", "files"

_CONTENT = "content"
"""The files of a write, next to their manifest."""

_WAITING = "pending-"
"""How the ids of runs begin that the store does not have yet."""

Point = tuple[str, float, int, int]
"""Name, value, time in milliseconds and step of a metric."""


class Recorder:
    """Sends the writes of a run and its child runs, in order.

    Once the store does not answer, this and all later writes are appended to a journal.

    Args:
        experiment: the name of the experiment, which is created if it does not exist.
        folder: the folder of the journal; without one, a `NetworkError` is raised instead.
    """

    def __init__(self, experiment: str, folder: Path | None = None) -> None:
        self.experiment, self.folder = experiment, folder
        self.error: NetworkError | None = None
        self._lock = threading.Lock()  # child runs write in threads of their own

    @cached_property
    def _connected(self) -> MlflowClient:
        return connect(create=True)

    @property
    def client(self) -> MlflowClient:
        """A client for the store; raises a `NetworkError` once the store did not answer."""
        if self.error is not None:
            raise self.error
        return self._connected

    @cached_property
    def experiment_id(self) -> str:
        """The id of the experiment."""
        return get_or_create_experiment(self.client, self.experiment)

    def create_run(self, name: str, tags: Mapping[str, str]) -> str:
        """Create a run and return its id; that of a run that waits begins with `pending-`."""
        now = int(time.time() * 1000)
        if self.error is None:
            try:
                return _create_run(self.client, self.experiment_id, name, tags, now)
            except NetworkError as error:
                self.defer(error)
        run_id = f"{_WAITING}{uuid.uuid4().hex}"
        values = {"experiment": self.experiment, "name": name, "tags": dict(tags), "time": now}
        self._append({"run": run_id, "call": "create", **values})
        return run_id

    def write(self, run_id: str, call: str, **values: Any) -> None:
        """Send a write, one of `_CALLS`, or append it to the journal."""
        if self.error is None:
            try:
                _CALLS[call](self.client, run_id, **values)
            except NetworkError as error:
                self.defer(error)
            else:
                return
        if call == "log_files":
            folder = f"{_FILES}/{uuid.uuid4().hex}"
            with atomic_folder(self._journal.parent / folder) as tmp_path:
                shutil.copytree(values["folder"], tmp_path / _CONTENT)
                write_manifest(tmp_path)
            values["folder"] = folder
        self._append({"run": run_id, "call": call, **values})

    def defer(self, error: NetworkError) -> None:
        """Append all further writes to the journal. Without a folder for it, raise the error."""
        if self.folder is None:
            raise error
        if self.error is None:
            self.error = error
            _LOGGER.warning("%s. The run waits in %s for `recsys sync`.", error, self.folder)

    @property
    def _journal(self) -> Path:
        if self.folder is None:
            raise TrackingError("this run has no folder for its journal")
        return self.folder / _JOURNAL

    def _append(self, entry: Mapping[str, Any]) -> None:
        path = self._journal
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):  # trials of a sweep are several processes
                size = path.stat().st_size if path.exists() else 0
                try:
                    with path.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(with_digest(entry)) + "\n")
                except OSError:
                    if path.exists():
                        os.truncate(path, size)  # part of a line would damage what follows
                    raise


def count_writes(folder: Path) -> int:
    """Return how many writes wait in a folder."""
    path = folder / _JOURNAL
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def replay(folder: Path, *, n_writes: int = 1) -> dict[str, str]:
    """Send the writes of a journal; returns the ids that `pending-` ids were replaced with.

    It may be repeated: runs are created once, and the other writes have the same effect again.
    Runs whose process was killed are marked as such.

    Args:
        folder: the folder of the journal.
        n_writes: how many writes it has at least.

    Raises:
        NetworkError: the store does not answer.
        TrackingError: the journal is damaged; nothing was sent. Or the store refuses a write.
        BundleError: a file that was logged is damaged; nothing was sent.
    """
    entries = _read_entries(folder / _JOURNAL, n_writes)
    for entry in entries:
        if entry["call"] == "log_files":
            verify_manifest(folder / entry["folder"])
    client, path = connect(create=True), folder / _RUN_IDS
    run_ids: dict[str, str] = read_json(path) if path.exists() else {}
    write_json(path, run_ids)  # or nothing is sent: a run whose id is lost would be created again
    is_ended: dict[str, bool] = {}
    for number, entry in enumerate(entries, start=1):
        pending_id, call = entry.pop("run"), entry.pop("call")
        try:
            if call != "create":
                if call == "log_files":
                    entry["folder"] = folder / entry["folder"] / _CONTENT
                _CALLS[call](client, run_ids.get(pending_id, pending_id), **entry)
            elif pending_id not in run_ids:
                experiment_id = get_or_create_experiment(client, entry["experiment"])
                tags = {name: run_ids.get(tag, tag) for name, tag in entry["tags"].items()}
                created = _create_run(client, experiment_id, entry["name"], tags, entry["time"])
                run_ids[pending_id] = created
                write_json(path, run_ids)
        except MlflowException as error:
            reason = str(error).partition("\n")[0]
            raise TrackingError(
                f"{folder / _JOURNAL}, line {number}: MLflow refuses it: {reason}"
            ) from error
        is_ended[pending_id] = call == "end"
    for pending_id in (pending_id for pending_id, ended in is_ended.items() if not ended):
        run_id = run_ids.get(pending_id, pending_id)
        _LOGGER.warning("%s: run %s did not end, and is marked as killed", folder, run_id)
        _end(client, run_id, "KILLED", int(time.time() * 1000))
    return run_ids


def _read_entries(path: Path, n_writes: int) -> list[dict[str, Any]]:
    """Read a journal; raise a `TrackingError` if a line is not as it was written, or missing."""
    content = path.read_bytes() if path.exists() else b""
    entries: list[dict[str, Any]] = []
    remedy = f"restore a copy of it, or move {path.parent} away, since it cannot be sent"
    created: set[str] = set()
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            entry = json.loads(line)
            is_intact = with_digest(entry) == entry
        except (ValueError, AttributeError):  # no JSON, or no object
            is_intact = False
        if not is_intact:
            raise TrackingError(f"{path}, line {number} is damaged; {remedy}")
        del entry["sha256"]
        entries.append(entry)
        if entry["call"] == "create":
            created.add(entry["run"])
        elif entry["run"].startswith(_WAITING) and entry["run"] not in created:
            raise TrackingError(f"{path} lacks lines before line {number}; {remedy}")
    if len(entries) < n_writes:
        raise TrackingError(
            f"{path} was cut: it has {len(entries)} lines, not at least {n_writes}; {remedy}"
        )
    return entries


def _create_run(
    client: MlflowClient, experiment_id: str, name: str, tags: Mapping[str, str], time: int
) -> str:
    created = client.create_run(experiment_id, start_time=time, run_name=name, tags=dict(tags))
    return str(created.info.run_id)


def _log_batch(
    client: MlflowClient,
    run_id: str,
    metrics: Sequence[Point] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    client.log_batch(
        run_id,
        metrics=[Metric(*point) for point in metrics],
        params=[Param(name, value) for name, value in (params or {}).items()],
        tags=[RunTag(name, value) for name, value in (tags or {}).items()],
    )


def _log_dataset(
    client: MlflowClient, run_id: str, name: str, digest: str, source: str, profile: str
) -> None:
    dataset = Dataset(name, digest, "local", source, profile=profile)
    context = InputTag(mlflow_tags.MLFLOW_DATASET_CONTEXT, "training")
    client.log_inputs(run_id, [DatasetInput(dataset, [context])])


def _log_files(client: MlflowClient, run_id: str, folder: str | Path, path: str | None) -> None:
    client.log_artifacts(run_id, str(folder), path)


def _end(client: MlflowClient, run_id: str, status: str, time: int) -> None:
    client.set_terminated(run_id, status, end_time=time)


_CALLS: Final[dict[str, Callable[..., None]]] = {
    "log_batch": _log_batch,
    "log_dataset": _log_dataset,
    "log_files": _log_files,
    "end": _end,
}


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
