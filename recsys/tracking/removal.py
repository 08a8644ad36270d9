"""Runs removed for good: their rows in the database, and their files."""

from __future__ import annotations

from collections.abc import Iterator

from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from recsys.errors import TrackingError
from recsys.tracking.cleaning import Tree, named_runs


def bytes_of(client: MlflowClient, tree: Tree) -> int:
    """The size of the files of a run, of those within it and of their models."""
    return sum(_size(files, None) for files in _files_of(client, tree))


def remove(client: MlflowClient, tree: Tree) -> bool:
    """Remove a run, those within it, their models and versions, with all their files.

    Returns:
        Whether the rows are gone as well. Over HTTP, MLflow only marks them as deleted; `mlflow gc`
        on the server removes the marked ones.

    Raises:
        TrackingError: one of its versions was given an alias in the meantime.
    """
    if tree.run_ids & named_runs(client):
        raise TrackingError(f"{tree.root.info.run_name} is in use now: a version has an alias")
    for name, version in tree.versions:
        client.delete_model_version(name, version)
    for files in _files_of(client, tree):
        files.delete_artifacts()
    # What `mlflow gc` does on the machine of the database. Called as a command, it would also
    # remove every experiment that anyone has marked as deleted.
    store = client._tracking_client.store  # noqa: SLF001
    for_good = hasattr(store, "_hard_delete_run")
    for model_id in tree.model_ids:
        client.delete_logged_model(model_id)
        if for_good:
            store._hard_delete_logged_model(model_id)  # noqa: SLF001
    for run in tree.members:
        if run.info.lifecycle_stage == "active":
            client.delete_run(run.info.run_id)
        if for_good:
            store._hard_delete_run(run.info.run_id)  # noqa: SLF001
    return for_good


def _files_of(client: MlflowClient, tree: Tree) -> Iterator[ArtifactRepository]:
    places = [client.get_logged_model(model_id).artifact_location for model_id in tree.model_ids]
    places += [run.info.artifact_uri for run in tree.members]
    for place in places:
        yield get_artifact_repository(place, tracking_uri=client.tracking_uri)


def _size(files: ArtifactRepository, path: str | None) -> int:
    return sum(
        _size(files, one.path) if one.is_dir else int(one.file_size or 0)
        for one in files.list_artifacts(path)
    )
