"""Find and remove old runs, and the cached results that only they use.

A run is removed with its child runs, its models and their versions. The run of a version with an
alias (champion, challenger, or any other) is kept, with its whole tree.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.entities import ViewType
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from recsys.errors import TrackingError
from recsys.tracking.runs import PROCESS_TAG

_TREES_PER_PROCESS = 20
"""The number of top-level runs whose ids are passed to one `mlflow gc`."""


@dataclass(frozen=True)
class RunTree:
    """A top-level run with all its child runs."""

    root: MlflowRun
    runs: tuple[MlflowRun, ...]

    @cached_property
    def run_ids(self) -> set[str]:
        """The ids of all runs."""
        return {run.info.run_id for run in self.runs}

    @property
    def ended(self) -> datetime | None:
        """When the last run ended; None while one is running."""
        ends = [run.info.end_time for run in self.runs]
        return None if None in ends else datetime.fromtimestamp(max(ends) / 1000, UTC)


@dataclass(frozen=True)
class GcPlan:
    """The runs to remove and the runs to keep, oldest first."""

    remove: list[RunTree]
    keep: list[RunTree]

    @property
    def params_in_use(self) -> set[str]:
        """The parameter values of the runs to keep, among them the names of cached results."""
        return {
            value for tree in self.keep for run in tree.runs for value in run.data.params.values()
        }


def plan_gc(client: MlflowClient, before: datetime, keep: int) -> GcPlan:
    """Select the runs to remove among those that this library recorded.

    Args:
        client: a client for the store.
        before: only runs that ended before this time are removed.
        keep: the number of latest runs of each experiment that are always kept.
    """
    aliased = aliased_runs(client)
    n_later: dict[str, int] = defaultdict(int)
    plan = GcPlan([], [])
    for tree in sorted(_run_trees(client), key=lambda tree: -tree.root.info.start_time):
        info = tree.root.info
        is_latest = info.lifecycle_stage == "active" and n_later[info.experiment_id] < keep
        n_later[info.experiment_id] += info.lifecycle_stage == "active"
        is_kept = (
            is_latest
            or tree.run_ids & aliased
            or tree.ended is None
            or tree.ended >= before
            or PROCESS_TAG not in tree.root.data.tags
        )
        (plan.keep if is_kept else plan.remove).insert(0, tree)
    return plan


def aliased_runs(client: MlflowClient) -> set[str]:
    """Return the ids of the runs from which versions with an alias were registered."""
    return {
        str(client.get_model_version(model.name, str(version)).run_id)
        for model in _pages(client.search_registered_models)
        for version in set(model.aliases.values())
    }


def size_of(client: MlflowClient, tree: RunTree) -> int:
    """Return the size in bytes of the files of a run, its child runs and their models."""
    return sum(_size(files, None) for files in _artifacts(client, tree))


def remove_runs(client: MlflowClient, trees: Sequence[RunTree]) -> bool:
    """Remove runs with their child runs, models, versions and files.

    Returns:
        Whether the database rows were removed too. Over HTTP, MLflow can only mark them as
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


def _mark_deleted(client: MlflowClient, tree: RunTree) -> list[str]:
    """Remove versions and files, mark runs and models as deleted; return the ids of the models."""
    if tree.run_ids & aliased_runs(client):
        name = tree.root.info.run_name
        raise TrackingError(f"run {name!r} is in use: one of its versions has an alias")
    for run_id in tree.run_ids:
        for version in _pages(partial(client.search_model_versions, f"run_id = '{run_id}'")):
            client.delete_model_version(version.name, str(version.version))
    for files in _artifacts(client, tree):
        files.delete_artifacts()
    model_ids = [model.model_id for model in _models(client, tree)]
    for model_id in model_ids:
        client.delete_logged_model(model_id)
    for run in tree.runs:
        if run.info.lifecycle_stage == "active":
            client.delete_run(run.info.run_id)
    return model_ids


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


def _run_trees(client: MlflowClient) -> Iterator[RunTree]:
    """Group all runs of all experiments by their top-level run."""
    experiments = [experiment.experiment_id for experiment in _pages(client.search_experiments)]
    search = partial(client.search_runs, experiments, run_view_type=ViewType.ALL)
    runs = {run.info.run_id: run for run in _pages(search)}
    trees: dict[str, list[MlflowRun]] = defaultdict(list)
    for run_id, run in runs.items():
        root = run_id
        # A child run whose parent no longer exists is a root.
        while (parent := runs[root].data.tags.get(MLFLOW_PARENT_RUN_ID)) in runs:
            root = parent
        trees[root].append(run)
    return (RunTree(runs[root], tuple(members)) for root, members in trees.items())


def _models(client: MlflowClient, tree: RunTree) -> list[Any]:
    models = _pages(partial(client.search_logged_models, [tree.root.info.experiment_id]))
    return [model for model in models if model.source_run_id in tree.run_ids]


def _artifacts(client: MlflowClient, tree: RunTree) -> list[ArtifactRepository]:
    locations = [model.artifact_location for model in _models(client, tree)]
    locations += [run.info.artifact_uri for run in tree.runs]
    return [get_artifact_repository(uri, tracking_uri=client.tracking_uri) for uri in locations]


def _size(files: ArtifactRepository, path: str | None) -> int:
    return sum(
        _size(files, entry.path) if entry.is_dir else int(entry.file_size or 0)
        for entry in files.list_artifacts(path)
    )


def _pages(search: Callable[..., Any]) -> Iterator[Any]:
    """Iterate over all results of a search that takes a `page_token`."""
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def old_folders(cache: Path, before: datetime, in_use: Collection[str]) -> list[Path]:
    """Return the folders `<kind>/<digest>` of a cache last written to before a time.

    Args:
        cache: the folder in which flows keep counts, interactions and checkpoints.
        before: the time.
        in_use: digests of folders that are not returned.
    """
    folders = sorted(path for path in cache.glob("*/*") if path.is_dir())
    return [path for path in folders if path.name not in in_use and last_modified(path) < before]


def last_modified(folder: Path) -> datetime:
    """Return the latest modification time of a folder and its contents."""
    paths = [folder, *folder.rglob("*")]
    return datetime.fromtimestamp(max(path.stat().st_mtime for path in paths), UTC)


def folder_size(folder: Path) -> int:
    """Return the size of all files in a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
