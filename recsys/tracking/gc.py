"""Find and remove old runs, and the cached results that only they need.

A run is removed with its child runs, its models and their versions. The run of a version with an
alias (champion, challenger, or any other) is kept, with its whole tree.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
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
    def name(self) -> str:
        """The name of the top-level run."""
        return str(self.root.info.run_name)

    @property
    def ended(self) -> datetime | None:
        """When the last run ended; None while one is running."""
        ends = [run.info.end_time for run in self.runs]
        return None if None in ends else datetime.fromtimestamp(max(ends) / 1000, UTC)


@dataclass(frozen=True)
class GcPlan:
    """The runs to remove, oldest first, and the runs to keep."""

    remove: list[RunTree]
    keep: list[RunTree]

    @property
    def params_in_use(self) -> set[str]:
        """All parameter values of the runs to keep. Cached results are named by such values."""
        return {
            value for tree in self.keep for run in tree.runs for value in run.data.params.values()
        }


def plan_gc(client: MlflowClient, before: datetime, keep: int) -> GcPlan:
    """Select the runs to remove among those that this library recorded.

    Args:
        client: of the store.
        before: only runs that ended before this time are removed.
        keep: the number of latest runs of each experiment that are always kept.
    """
    aliased = aliased_runs(client)
    trees = sorted(_run_trees(client), key=lambda tree: tree.root.info.start_time)
    latest: dict[str, list[str]] = defaultdict(list)
    for tree in reversed(trees):
        if tree.root.info.lifecycle_stage == "active":
            latest[tree.root.info.experiment_id].append(tree.root.info.run_id)
    kept = {run_id for run_ids in latest.values() for run_id in run_ids[:keep]}

    def is_removable(tree: RunTree) -> bool:
        ended = tree.ended
        return (
            tree.root.info.run_id not in kept
            and not tree.run_ids & aliased
            and (ended is not None and ended < before)
            and PROCESS_TAG in tree.root.data.tags
        )

    return GcPlan(
        [tree for tree in trees if is_removable(tree)],
        [tree for tree in trees if not is_removable(tree)],
    )


def aliased_runs(client: MlflowClient) -> set[str]:
    """Return the ids of the runs from which versions with an alias were registered."""
    return {
        str(client.get_model_version(model.name, str(version)).run_id)
        for model in paginate(client.search_registered_models)
        for version in set(model.aliases.values())
    }


def size_in_store(client: MlflowClient, tree: RunTree) -> int:
    """Return the size of the files of a run, its child runs and their models, in bytes."""
    return sum(_size(files, None) for files in _artifacts(client, tree))


def remove_runs(client: MlflowClient, trees: Sequence[RunTree]) -> bool:
    """Remove runs with their child runs, models, versions and files.

    Returns:
        Whether the database rows were removed too. Over HTTP, MLflow can only mark them as
        deleted; `mlflow gc` on the server removes the marked rows.

    Raises:
        TrackingError: a version was given an alias since the runs were selected.
    """
    model_ids: list[str] = []
    for tree in trees:
        if tree.run_ids & aliased_runs(client):
            raise TrackingError(f"run {tree.name!r} is in use: one of its versions has an alias")
        for run_id in tree.run_ids:
            for version in paginate(partial(client.search_model_versions, f"run_id = '{run_id}'")):
                client.delete_model_version(version.name, str(version.version))
        for files in _artifacts(client, tree):
            files.delete_artifacts()
        for model_id in _model_ids(client, tree):
            client.delete_logged_model(model_id)
            model_ids.append(model_id)
        for run in tree.runs:
            if run.info.lifecycle_stage == "active":
                client.delete_run(run.info.run_id)
    if client.tracking_uri.startswith(("http:", "https:", "databricks")):
        return False
    _purge(client, [run_id for tree in trees for run_id in tree.run_ids], model_ids)
    return True


def _purge(client: MlflowClient, run_ids: list[str], model_ids: list[str]) -> None:
    """Remove the rows of deleted runs and models with `mlflow gc`.

    Where it is given no ids, `mlflow gc` removes everything marked as deleted, by anyone. So it
    is given an empty experiment and model, created and deleted for this purpose.
    """
    experiment_id = client.create_experiment(f"recsys gc {uuid.uuid4()}")
    empty_model = client.create_logged_model(experiment_id)
    client.delete_logged_model(empty_model.model_id)
    client.delete_experiment(experiment_id)
    command = [sys.executable, "-m", "mlflow", "gc", "--experiment-ids", experiment_id]
    command += ["--run-ids", ",".join(run_ids)] if run_ids else []
    command += ["--logged-model-ids", ",".join([*model_ids, empty_model.model_id])]
    # The URIs may hold a password: arguments can be read by other users.
    uri = client.tracking_uri
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_BACKEND_STORE_URI": uri}
    done = subprocess.run(  # noqa: S603  no shell
        command, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise TrackingError(f"`mlflow gc` failed: {lines[-1]}")


def _run_trees(client: MlflowClient) -> Iterator[RunTree]:
    """Group all runs of all experiments by their top-level run."""
    experiments = [experiment.experiment_id for experiment in paginate(client.search_experiments)]
    search = partial(client.search_runs, experiments, run_view_type=ViewType.ALL)
    runs = {run.info.run_id: run for run in paginate(search)}
    trees: dict[str, list[MlflowRun]] = defaultdict(list)
    for run_id, run in runs.items():
        root = run_id
        # A child run whose parent no longer exists is a root.
        while (parent := runs[root].data.tags.get(MLFLOW_PARENT_RUN_ID)) in runs:
            root = parent
        trees[root].append(run)
    return (RunTree(runs[root], tuple(members)) for root, members in trees.items())


def _model_ids(client: MlflowClient, tree: RunTree) -> list[str]:
    models = paginate(partial(client.search_logged_models, [tree.root.info.experiment_id]))
    return [model.model_id for model in models if model.source_run_id in tree.run_ids]


def _artifacts(client: MlflowClient, tree: RunTree) -> Iterator[ArtifactRepository]:
    model_ids = _model_ids(client, tree)
    locations = [client.get_logged_model(model_id).artifact_location for model_id in model_ids]
    for location in [*locations, *(run.info.artifact_uri for run in tree.runs)]:
        yield get_artifact_repository(location, tracking_uri=client.tracking_uri)


def _size(files: ArtifactRepository, path: str | None) -> int:
    return sum(
        _size(files, entry.path) if entry.is_dir else int(entry.file_size or 0)
        for entry in files.list_artifacts(path)
    )


def paginate(search: Callable[..., Any]) -> Iterator[Any]:
    """Iterate over all pages of a search that takes a `page_token` and returns a `PagedList`."""
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def old_folders(cache: Path, before: datetime, in_use: Iterable[str]) -> list[Path]:
    """Return the folders `<kind>/<digest>` of a cache that nothing has been written to recently.

    Args:
        cache: the folder in which flows keep counts, interactions and checkpoints.
        before: only folders whose latest write is before this time are returned.
        in_use: digests of folders that are not returned.
    """
    folders = sorted(path for path in cache.glob("*/*") if path.is_dir())
    return [path for path in folders if path.name not in in_use and last_modified(path) < before]


def last_modified(folder: Path) -> datetime:
    """Return the latest modification time of a folder and everything in it."""
    paths = [folder, *folder.rglob("*")]
    return datetime.fromtimestamp(max(path.stat().st_mtime for path in paths), UTC)


def folder_size(folder: Path) -> int:
    """Return the size of all files in a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
