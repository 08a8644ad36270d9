"""The MLflow store: its location, a client for it, and the bundles that its URIs refer to.

By default, runs are recorded in `mlflow/mlflow.db` (SQLite) and files in `mlflow/artifacts`, both
below the working directory. `MLFLOW_TRACKING_URI` selects any other MLflow store.

URIs of models and runs in an SQLite store are resolved by reading its tables directly. Importing
MLflow takes seconds, more than everything else that a single recommendation needs. Any other
store, remote files and an unexpected schema are left to MLflow.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from recsys.errors import TrackingError, requires

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCAL_FOLDER = Path("mlflow")
DATABASE = "mlflow.db"
ARTIFACTS = "artifacts"

BUNDLE = "bundle"
"""Name of the bundle's folder within a model."""

BUNDLE_PATH = f"artifacts/{BUNDLE}"
"""Path of the bundle relative to the root of a model."""


def is_local() -> bool:
    """Whether runs are recorded in the default local store."""
    return not os.environ.get("MLFLOW_TRACKING_URI")


def connect(*, create: bool = False) -> MlflowClient:
    """Return a client for the store.

    Args:
        create: create the local store if it does not exist.

    Raises:
        TrackingError: the local store does not exist and `create` is false.
        ConfigError: MLflow is not installed.
    """
    with requires("flows"):
        from mlflow import MlflowClient

    if not is_local():
        return MlflowClient()
    database = (LOCAL_FOLDER / DATABASE).resolve()
    if not database.exists():
        if not create:
            raise TrackingError(
                f"no runs are recorded in {database.parent}: train a model first (`make run`), "
                "change to the folder where you trained one, or set MLFLOW_TRACKING_URI"
            )
        _create_database(database)
    uri = f"sqlite:///{database}"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _create_database(database: Path) -> None:
    """Create the database in a temporary folder and hard-link the finished file into place.

    MLflow creates its tables in about forty migrations. Concurrent processes would run them
    against each other, and a killed process would leave a database that cannot be used.
    """
    from mlflow import MlflowClient

    database.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=database.parent) as folder:
        tmp_path = Path(folder) / DATABASE
        MlflowClient(f"sqlite:///{tmp_path}").search_experiments(max_results=1)
        with closing(sqlite3.connect(tmp_path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with suppress(FileExistsError):  # another process created it first
            os.link(tmp_path, database)


def version_of(uri: str) -> str:
    """Return the model name and version that a URI refers to now, such as "recsys 3".

    Args:
        uri: `models:/<name>@<alias>` or `models:/<name>/<version>`.

    Raises:
        TrackingError: the model or alias does not exist, or the registry does not answer.
    """
    name, version, alias = _parse_model_uri(uri)
    version = version or _query_version(name, alias)
    if version:
        return f"{name} {version}"
    client = connect()
    from mlflow.exceptions import MlflowException

    try:
        return f"{name} {client.get_model_version_by_alias(name, alias).version}"
    except (MlflowException, OSError) as error:
        raise TrackingError(f"{uri} cannot be looked up: {error}") from error


def fetch_bundle(uri: str, folder: Path) -> Path:
    """Return the folder of the bundle that a URI refers to.

    A bundle of an SQLite store with local files is used in place. Any other is downloaded. No
    other file of the model is read, and no code of the model is run.

    Args:
        uri: `models:/<name>@<alias>`, `models:/<name>/<version>` or `runs:/<run id>[/<path>]`.
        folder: the folder to download to.

    Raises:
        TrackingError: the model, version or run does not exist, or its files cannot be read.
    """
    location = _local_path(_query_location(uri))
    if location is not None and location.is_dir():
        return location
    client = connect()
    from mlflow import artifacts
    from mlflow.exceptions import MlflowException

    try:
        return Path(
            artifacts.download_artifacts(
                artifact_uri=_client_location(client, uri),
                tracking_uri=client.tracking_uri,
                dst_path=str(folder),
            )
        )
    except (MlflowException, OSError) as error:
        raise TrackingError(f"{uri} cannot be loaded: {error}") from error


def model_id_of(client: MlflowClient, run_id: str) -> str | None:
    """Return the id of the model that a run logged; None if it logged none."""
    outputs = client.get_run(run_id).outputs
    return outputs.model_outputs[-1].model_id if outputs and outputs.model_outputs else None


def _parse_model_uri(uri: str) -> tuple[str, str, str]:
    """Split a URI into model name, version and alias, of which one is empty."""
    path = uri.partition(":/")[2].lstrip("/")
    name, at, alias = path.rpartition("@")
    version = ""
    if not at:
        (name, _, version), alias = path.partition("/"), ""
    if not name or not (version or alias):
        raise TrackingError(
            f"{uri!r} names no model: write models:/<name>@<alias> or models:/<name>/<version>"
        )
    return name, version, alias


def _parse_run_uri(uri: str) -> tuple[str, str]:
    """Split a URI into run id and path, which may be empty."""
    run_id, _, path = uri.partition(":/")[2].lstrip("/").partition("/")
    return run_id, path


def _client_location(client: MlflowClient, uri: str) -> str:
    """Look up where a bundle is stored, through MLflow."""
    if uri.startswith("runs:"):
        run_id, path = _parse_run_uri(uri)
        model_id = None if path else model_id_of(client, run_id)
        if model_id is not None:
            return _bundle_in(client.get_logged_model(model_id).artifact_location)
        return f"{client.get_run(run_id).info.artifact_uri}/{path or BUNDLE}"
    name, version, alias = _parse_model_uri(uri)
    if alias:
        version = client.get_model_version_by_alias(name, alias).version
    return _bundle_in(client.get_model_version_download_uri(name, version))


def _bundle_in(location: str) -> str:
    """Return the location of a model's bundle; a model may also be the bundle itself."""
    location = location.rstrip("/")
    return location if location.endswith(f"/{BUNDLE}") else f"{location}/{BUNDLE_PATH}"


def _query_location(uri: str) -> str | None:
    """Look up where a bundle is stored, in the SQLite database; None leaves it to MLflow."""
    if uri.startswith("runs:"):
        run_id, path = _parse_run_uri(uri)
        models = [] if path else _query(_RUN_MODELS, run_id)
        if models:
            return _bundle_in(models[0][0]) if len(models) == 1 and models[0][1] else None
        runs = _query(_RUN, run_id)
        return f"{runs[0][0]}/{path or BUNDLE}" if runs else None
    name, version, alias = _parse_model_uri(uri)
    number = _query_version(name, alias) if alias else version
    locations = _query(_MODEL_VERSION, name, number) if number and number.isdecimal() else []
    return _bundle_in(locations[0][0]) if len(locations) == 1 and locations[0][0] else None


def _query_version(name: str, alias: str) -> str:
    versions = _query(_ALIAS, name, alias)
    return str(versions[0][0]) if len(versions) == 1 else ""


_ALIAS = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?"
_MODEL_VERSION = """
    SELECT coalesce(nullif(storage_location, ''), source) FROM model_versions
    WHERE name = ? AND version = ? AND current_stage != 'Deleted_Internal'
"""
_RUN = "SELECT artifact_uri FROM runs WHERE run_uuid = ?"
_RUN_MODELS = """
    SELECT artifact_location, lifecycle_stage = 'active' FROM inputs
    LEFT JOIN logged_models ON model_id = destination_id
    WHERE source_type = 'RUN_OUTPUT' AND source_id = ? AND destination_type = 'MODEL_OUTPUT'
"""


def _query(statement: str, *values: str) -> list[Any]:
    """Read rows from the SQLite database; an empty list if it cannot be read this way."""
    database = _database_path()
    if database is None:
        return []
    try:
        with closing(sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True)) as file:
            return file.execute(statement, values).fetchall()
    except sqlite3.Error:
        return []


def _database_path() -> Path | None:
    """Return the SQLite database of both runs and models; None if there is no such file."""
    prefix = "sqlite:///"
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{prefix}{LOCAL_FOLDER / DATABASE}"
    registry = uri if is_local() else os.environ.get("MLFLOW_REGISTRY_URI") or uri
    path = Path(uri.removeprefix(prefix))
    is_plain = uri.startswith(prefix) and registry == uri and not {"?", "%"} & set(uri)
    has_workspaces = os.environ.get("MLFLOW_ENABLE_WORKSPACES", "false").lower() in ("true", "1")
    return path.resolve() if is_plain and not has_workspaces and path.is_file() else None


def _local_path(location: str | None) -> Path | None:
    """Convert a `file://` URI or an absolute path; None if it is neither."""
    if location is None:
        return None
    if location.startswith("/"):
        return Path(location)
    parts = urlsplit(location)
    is_file = parts.scheme == "file" and not (parts.netloc or parts.query or parts.fragment)
    return Path(url2pathname(parts.path)) if is_file else None
