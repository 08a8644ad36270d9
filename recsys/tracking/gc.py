"""Find and remove old runs, and the cached results that only they use.

A run is removed with its child runs, its models and their versions. The run of a version with an
alias (champion, challenger, or any other) is kept, with its whole tree.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.entities import ViewType
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from recsys.errors import TrackingError
from recsys.storage import folder_lock
from recsys.tracking.runs import CACHE_TAG, PROCESS_TAG

_TREES_PER_PROCESS = 20  # whose ids are arguments of one `mlflow gc`

_TEMPORARY = re.compile(r"\..+[.-]\w{8}")
"""Names of temporary folders; what a process did not move away, or remove, it left behind."""


@contextmanager
def cache_lock(cache: Path, notify: Callable[[str], object]) -> Iterator[Path]:
    """Keep other processes of this machine from training on, or removing, cached results.

    Waits while another process does. Removes the temporary folders of killed processes, and yields
    a new one.
    """
    with folder_lock(cache / "training.lock", "trains or removes results", notify):
        for path in list(cache.rglob(".*")):
            if path.is_dir() and _TEMPORARY.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=".run-", dir=cache.resolve()) as folder:
            yield Path(folder)


@dataclass(frozen=True)
class RunTree:
    """A top-level run with all its child runs."""

    root: MlflowRun
    runs: list[MlflowRun]

    @cached_property
    def run_ids(self) -> set[str]:
        """The ids of all runs."""
        return {run.info.run_id for run in self.runs}

    @property
    def ended(self) -> datetime | None:
        """When the last run ended; None while one is running."""
        ends = [run.info.end_time for run in self.runs]
        return None if None in ends else datetime.fromtimestamp(max(ends) / 1000, UTC)


def select_runs(
    client: MlflowClient, before: datetime, keep: int
) -> tuple[list[RunTree], list[RunTree]]:
    """Select the runs to remove, and the runs to keep, both oldest first.

    To be removed, a run must have ended before `before`, must have been recorded by this library,
    and must not be one of the `keep` latest runs of its experiment.
    """
    aliased = _aliased_runs(client)
    n_later: dict[str, int] = defaultdict(int)
    to_remove: list[RunTree] = []
    to_keep: list[RunTree] = []
    for tree in sorted(_run_trees(client), key=lambda tree: -tree.root.info.start_time):
        info = tree.root.info
        is_active = info.lifecycle_stage == "active"
        is_kept = (
            (is_active and n_later[info.experiment_id] < keep)
            or tree.run_ids & aliased
            or tree.ended is None
            or tree.ended >= before
            or PROCESS_TAG not in tree.root.data.tags
        )
        n_later[info.experiment_id] += is_active
        (to_keep if is_kept else to_remove).append(tree)
    return to_remove[::-1], to_keep[::-1]


def size_of(client: MlflowClient, tree: RunTree) -> int:
    """Return the size in bytes of the files of a run, its child runs and their models."""
    return sum(_size(files) for files in _artifacts(client, tree, _models(client, tree)))


def remove_runs(client: MlflowClient, trees: Sequence[RunTree]) -> bool:
    """Remove runs with their child runs, models, versions and files.

    Returns whether the database rows were removed too. Over HTTP, MLflow can only mark them as
    deleted; `mlflow gc` on the server removes the marked rows.

    Raises:
        TrackingError: a version was given an alias since the runs were selected.
    """
    has_database = not client.tracking_uri.startswith(("http:", "https:", "databricks"))
    for start in range(0, len(trees), _TREES_PER_PROCESS):
        batch = trees[start : start + _TREES_PER_PROCESS]
        model_ids = [model_id for tree in batch for model_id in _mark_deleted(client, tree)]
        if has_database:
            _purge(client, [run_id for tree in batch for run_id in tree.run_ids], model_ids)
    return has_database


def old_folders(
    cache: Path, before: datetime, keep: Sequence[RunTree]
) -> list[tuple[Path, datetime, int]]:
    """Select the folders of a cache last written to before a time and used by no run of `keep`.

    Folders are named `<kind>/<digest>`; a run that uses one has its digest as a parameter, or its
    path as the tag `CACHE_TAG`. Returns each with the time of the last write and the size of its
    files in bytes.
    """
    runs = [run for tree in keep for run in tree.runs]
    in_use = {value for run in runs for value in run.data.params.values()}
    in_use |= {Path(run.data.tags.get(CACHE_TAG, "")).name for run in runs}
    old = []
    digest = re.compile(r"[0-9a-f]{64}")
    folders = [path for path in cache.glob("*/*") if path.is_dir() and digest.fullmatch(path.name)]
    for folder in sorted(folders):
        content = list(folder.rglob("*"))
        last_write = max(path.stat().st_mtime for path in [folder, *content])
        modified = datetime.fromtimestamp(last_write, UTC)
        if folder.name not in in_use and modified < before:
            size = sum(path.stat().st_size for path in content if path.is_file())
            old.append((folder, modified, size))
    return old


def _mark_deleted(client: MlflowClient, tree: RunTree) -> list[str]:
    """Remove versions and files, mark runs and models as deleted; return the ids of the models."""
    if tree.run_ids & _aliased_runs(client):
        name = tree.root.info.run_name
        raise TrackingError(f"run {name!r} is in use: one of its versions has an alias")
    for run_id in tree.run_ids:
        for version in pages(client.search_model_versions, f"run_id = '{run_id}'"):
            client.delete_model_version(version.name, str(version.version))
    models = _models(client, tree)
    for files in _artifacts(client, tree, models):
        files.delete_artifacts()
    for model in models:
        client.delete_logged_model(model.model_id)
    for run in tree.runs:
        if run.info.lifecycle_stage == "active":
            client.delete_run(run.info.run_id)
    return [model.model_id for model in models]


def _purge(client: MlflowClient, run_ids: list[str], model_ids: list[str]) -> None:
    """Remove the rows of deleted runs and models with `mlflow gc`.

    `mlflow gc` without ids removes all runs, models or experiments that anyone has deleted. An
    empty model and experiment are created and deleted here so that there are always ids.
    """
    experiment_id = client.create_experiment(f"recsys gc {uuid.uuid4()}")
    model_id = client.create_logged_model(experiment_id).model_id
    client.delete_logged_model(model_id)
    client.delete_experiment(experiment_id)
    command = [sys.executable, "-m", "mlflow", "gc", "--experiment-ids", experiment_id]
    command += ["--run-ids", ",".join(run_ids)]
    command += ["--logged-model-ids", ",".join([*model_ids, model_id])]
    # Not as arguments, which other users can read: a URI may hold a password.
    uris = dict.fromkeys(["MLFLOW_TRACKING_URI", "MLFLOW_BACKEND_STORE_URI"], client.tracking_uri)
    done = subprocess.run(  # noqa: S603  without a shell
        command, env={**os.environ, **uris}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise TrackingError(f"`mlflow gc` failed: {done.stderr.strip()[-300:]}")


def _aliased_runs(client: MlflowClient) -> set[str]:
    """Return the ids of the runs from which versions with an alias were registered."""
    return {
        str(client.get_model_version(model.name, str(version)).run_id)
        for model in pages(client.search_registered_models)
        for version in set(model.aliases.values())
    }


def _run_trees(client: MlflowClient) -> Iterator[RunTree]:
    """Group all runs of all experiments by their top-level run."""
    experiments = [experiment.experiment_id for experiment in pages(client.search_experiments)]
    found = pages(client.search_runs, experiments, run_view_type=ViewType.ALL)
    runs = {run.info.run_id: run for run in found}
    trees: dict[str, list[MlflowRun]] = defaultdict(list)
    for run_id, run in runs.items():
        root = run_id
        # A child run whose parent no longer exists is a root.
        while (parent := runs[root].data.tags.get(MLFLOW_PARENT_RUN_ID)) in runs:
            root = parent
        trees[root].append(run)
    return (RunTree(runs[root], members) for root, members in trees.items())


def _models(client: MlflowClient, tree: RunTree) -> list[Any]:
    models = pages(client.search_logged_models, [tree.root.info.experiment_id])
    return [model for model in models if model.source_run_id in tree.run_ids]


def _artifacts(client: MlflowClient, tree: RunTree, models: list[Any]) -> list[Any]:
    locations = [model.artifact_location for model in models]
    locations += [run.info.artifact_uri for run in tree.runs]
    return [get_artifact_repository(uri, tracking_uri=client.tracking_uri) for uri in locations]


def _size(files: Any, path: str | None = None) -> int:
    return sum(
        _size(files, entry.path) if entry.is_dir else int(entry.file_size or 0)
        for entry in files.list_artifacts(path)
    )


def pages(search: Callable[..., Any], *args: Any, **options: Any) -> Iterator[Any]:
    """Iterate over all results of a search that takes a `page_token`."""
    page = search(*args, **options)
    yield from page
    while page.token:
        page = search(*args, **options, page_token=page.token)
        yield from page
