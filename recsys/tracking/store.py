"""The MLflow store: its location, a client for it, and the bundles that its URIs refer to.

By default, runs are recorded in `mlflow/mlflow.db` (SQLite) and files in `mlflow/artifacts`, both
below the working directory. `MLFLOW_TRACKING_URI` selects any other MLflow store.

URIs are looked up in an SQLite store without MLflow, whose import takes longer than everything else
that one recommendation needs. Any other store, or an unknown schema, is left to MLflow.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote
from urllib.request import url2pathname

from recsys.errors import (
    ConfigError,
    NetworkError,
    RecsysError,
    StorageError,
    TrackingError,
    first_cause,
    requires,
)
from recsys.storage import writing

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE = Path("mlflow/mlflow.db")
ARTIFACTS = "artifacts"

BUNDLE = "bundle"
"""Name of the bundle among the artifacts of a model."""

_HOME: ContextVar[Path | None] = ContextVar("home", default=None)
"""The folder that relative paths refer to; None for the working directory."""

_MODEL_URI = re.compile(r"models:/+(.+?)(?:/(\d+)|@([^@]+))")

_MODEL_QUERY = """
    SELECT DISTINCT version, coalesce(nullif(storage_location, ''), source)
    FROM model_versions LEFT JOIN registered_model_aliases USING (workspace, name, version)
    WHERE name = ? AND (version = ? OR alias = ?) AND current_stage != 'Deleted_Internal'
"""
_RUN_QUERY = """
    SELECT model_id, artifact_location FROM inputs JOIN logged_models ON model_id = destination_id
    WHERE source_type = 'RUN_OUTPUT' AND source_id = ? AND lifecycle_stage = 'active'
"""


_NEW = ".new-"
"""How the folders begin in which databases are created."""

_SQLITE = "sqlite:///"

_PASSWORD = re.compile(r"//[^/@]*@")

_SERVER_ERROR, _UNAVAILABLE = 500, 503
"""The lowest HTTP status of a fault of a server; that of a database that does not answer."""

_REFUSALS = {401, 403, 407, 408, 413, 429}
"""The HTTP statuses of a server, or of a proxy before it, that may take the same request later,
with another token, more rights or a higher limit."""

_CONNECT_SECONDS = 3.0
"""How long to wait until a server accepts a connection."""

_LOCK_SECONDS = 20.0
"""How long to wait for the lock of an SQLite store, as MLflow does."""


def is_local() -> bool:
    """Whether runs are recorded in the default local store."""
    return not os.environ.get("MLFLOW_TRACKING_URI")


@contextmanager
def relative_to(folder: Path) -> Iterator[None]:
    """Use the store that was in use when `folder` was the working directory."""
    token = _HOME.set(folder)
    try:
        yield
    finally:
        _HOME.reset(token)


def _address() -> str:
    """The URI of the store; that of an SQLite store is absolute."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{DATABASE}"
    if not uri.startswith(_SQLITE) or {"?", "%"} & set(uri):
        return uri
    path = Path(_HOME.get() or "", uri.removeprefix(_SQLITE))
    return f"{_SQLITE}{path.resolve()}"


def connect(*, create: bool = False) -> MlflowClient:
    """Return a client for the store.

    Raises:
        TrackingError: the database does not exist and is not to be created, or is damaged.
        ConfigError: MLflow is not installed, or cannot use MLFLOW_TRACKING_URI.
        NetworkError: the server does not answer, or the database is locked. The methods of the
            client raise it too.
        StorageError: the disk is full or the store is read-only, likewise.
    """
    address = _address()
    database = Path(address.removeprefix(_SQLITE))
    is_file = address.startswith(_SQLITE) and not {"?", "%"} & set(address)
    if is_file and not create and not database.exists():
        raise TrackingError(
            f"no runs are recorded in {database}: train a model first (`recsys train`), "
            "change to the folder where you trained one, or set MLFLOW_TRACKING_URI"
        )
    with requires("flows"):
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    # What these report is raised as an error of one line.
    for name in ("urllib3.connectionpool", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with store_errors(address):
        if is_local() and not database.exists():
            _create_database(database)
        if is_file:
            _require_intact(database)
        # Otherwise MLflow reads the environment.
        uris = (address if is_file else None, address if is_local() else None)
        try:
            client = MlflowClient(*uris)
            if address.startswith(("http://", "https://")):
                _require_server(address, client)
        except (MlflowException, ValueError) as error:
            if isinstance(error, MlflowException) and _is_away(error, address):
                raise
            reason = str(error).strip().partition("\n")[0]
            uri = _PASSWORD.sub("//", address)
            raise ConfigError(f"MLFLOW_TRACKING_URI is {uri!r}: {reason}") from error
    return cast("MlflowClient", _CheckedClient(client))


class _CheckedClient:
    """A client whose methods raise the errors of `store_errors`."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        @functools.wraps(found)
        def call(*args: Any, **kwargs: Any) -> Any:
            with store_errors(self._client.tracking_uri):
                return found(*args, **kwargs)

        return call


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Report in one line that a store does not answer, or cannot be written.

    Raises:
        NetworkError: the server does not answer or fails, or the database is locked.
        StorageError: the disk is full, or the store is read-only.
    """
    uri = _PASSWORD.sub("//", uri)
    try:
        with writing(Path(uri.removeprefix(_SQLITE)).parent if uri.startswith(_SQLITE) else uri):
            yield
    except RecsysError:
        raise
    except Exception as error:
        message = str(error)
        if "database or disk is full" in message:
            raise StorageError(f"{uri} cannot be written: the disk is full; make room") from error
        if "readonly database" in message or "unable to open database" in message:
            reason = "make it and its folder writable for this user"
            raise StorageError(f"{uri} cannot be opened: {reason}") from error
        if "database is locked" in message:
            raise NetworkError(f"{uri} is locked by another process") from error
        if not _is_away(error, uri):
            raise
        reason = str(first_cause(error)).partition("\n")[0]
        what = "refuses a request" if _status_of(error) in _REFUSALS else "does not answer"
        raise NetworkError(f"the MLflow store at {uri} {what}: {reason}") from error


def _is_away(error: Exception, uri: str) -> bool:
    """Whether an error says that a server does not answer, failed or refuses this user."""
    if type(error).__module__.partition(".")[0] in {"requests", "urllib3"}:
        return True
    status = _status_of(error)
    lowest = _SERVER_ERROR if uri.startswith("http") else _UNAVAILABLE
    is_refusal = uri.startswith("http") and status in _REFUSALS
    return type(error).__name__ == "OperationalError" or status >= lowest or is_refusal


def _status_of(error: Exception) -> int:
    """The HTTP status of an `MlflowException` or of an error of an upload; 0 if there is none."""
    if (response := getattr(error, "response", None)) is not None:
        return int(response.status_code)
    return int(getattr(error, "get_http_status_code", int)())


def _require_intact(database: Path) -> None:
    """Read from a database: MLflow would try ten times, with a traceback each.

    Raises:
        TrackingError: the file is not an SQLite database or was cut.
    """
    if is_local() and not database.stat().st_size:  # it is never empty, even while it is created
        raise TrackingError(f"{database} is empty: restore a copy, or move it away to begin anew")
    database.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(sqlite3.connect(database, timeout=_LOCK_SECONDS)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master")
            _require_whole_pages(database, connection)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise TrackingError(
            f"{database} is damaged ({error}): restore a copy, or move it away to begin anew"
        ) from error


def _require_whole_pages(database: Path, connection: sqlite3.Connection) -> None:
    """Raise an error if part of the last page is missing, which SQLite reads as zeros."""
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    if database.stat().st_size % page_size:
        raise sqlite3.DatabaseError("its end is missing")


def _require_server(address: str, client: MlflowClient) -> None:
    """Send a request: to a server that may not be there, be no MLflow server or refuse this user.

    MLflow itself would try to connect for 15 seconds, and for minutes if packets are dropped.
    """
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT
    from requests import exceptions, head

    timeout = (_CONNECT_SECONDS, MLFLOW_HTTP_REQUEST_TIMEOUT.get())
    with suppress(exceptions.SSLError):  # it answers; whether it is trusted is left to MLflow
        head(address, timeout=timeout, allow_redirects=False)
    client.search_experiments(max_results=1)


def _open_read_only(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True)


def _create_database(database: Path) -> None:
    """Create the database in a temporary folder and hard-link the finished file into place.

    MLflow creates its tables in about forty migrations. Concurrent processes would run them
    against each other, and a killed process would leave a database that cannot be used; the next
    one removes its folder.
    """
    from filelock import FileLock
    from mlflow import MlflowClient

    database.parent.mkdir(parents=True, exist_ok=True)
    lock = database.with_suffix(".lock")
    with FileLock(lock):
        if not database.exists():
            for left in database.parent.glob(f"{_NEW}*"):
                shutil.rmtree(left)
            with tempfile.TemporaryDirectory(prefix=_NEW, dir=database.parent) as folder:
                tmp_path = Path(folder) / database.name
                MlflowClient(f"sqlite:///{tmp_path}").search_experiments(max_results=1)
                with closing(sqlite3.connect(tmp_path)) as connection:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                with suppress(FileExistsError):  # a lock does not reach every other machine
                    os.link(tmp_path, database)
        lock.unlink(missing_ok=True)  # only needed until there is a database


def version_of(uri: str) -> str:
    """Return the model name and version that a URI refers to now, such as "recsys 3".

    Args:
        uri: `models:/<name>@<alias>` or `models:/<name>/<version>`.

    Raises:
        TrackingError: the model or alias does not exist, or the registry does not answer.
    """
    return f"{_parse_model_uri(uri)[0]} {_look_up(uri)[0]}"


def fetch_bundle(uri: str, folder: Path) -> Path:
    """Return the folder of the bundle that a URI refers to.

    A bundle in a local folder is used in place, any other is downloaded. Only the bundle is read,
    and no code of the model is run.

    Args:
        uri: `models:/<name>@<alias>`, `models:/<name>/<version>` or `runs:/<run id>`.
        folder: the folder to download to.

    Raises:
        TrackingError: the model, version or run does not exist, or its files cannot be read.
        NetworkError: the store does not answer.
    """
    _, location = _look_up(uri)
    if location.startswith(("/", "file:///")):
        path = location if location[0] == "/" else url2pathname(location.removeprefix("file://"))
        return Path(path) / ARTIFACTS / BUNDLE
    client = connect()
    from mlflow import artifacts
    from mlflow.exceptions import MlflowException

    try:
        with store_errors(client.tracking_uri):
            downloaded = artifacts.download_artifacts(
                artifact_uri=f"{location}/{ARTIFACTS}/{BUNDLE}",
                tracking_uri=client.tracking_uri,
                dst_path=str(folder),
            )
    except (MlflowException, OSError) as error:
        raise TrackingError(f"{uri} cannot be loaded: {error}") from error
    return Path(downloaded)


def model_id_of(client: MlflowClient, run_id: str) -> str:
    """Return the id of the model that a run logged; raise a TrackingError if it logged none."""
    outputs = client.get_run(run_id).outputs
    if not outputs or not outputs.model_outputs:
        raise TrackingError(f"run {run_id} has no model: log_bundle logs one")
    return str(outputs.model_outputs[-1].model_id)


def model_run(client: MlflowClient, uri: str) -> str:
    """Return the id of the run that a registered version came from.

    Args:
        client: the store.
        uri: `models:/<name>@<alias>` or `models:/<name>/<version>`.

    Raises:
        TrackingError: the model or version does not exist, or it came from no run.
    """
    version, _ = _look_up(uri)
    run_id = client.get_model_version(_parse_model_uri(uri)[0], version).run_id
    if not run_id:
        raise TrackingError(f"{uri} came from no run")
    return str(run_id)


def _look_up(uri: str) -> tuple[str, str]:
    """Return the version (of a run: the model's id) and the location of a model."""
    found = _query_database(uri)
    if found is not None:
        return found
    client = connect()
    from mlflow.exceptions import MlflowException

    try:
        if uri.startswith("runs:"):
            model_id = model_id_of(client, uri.removeprefix("runs:/"))
            return model_id, client.get_logged_model(model_id).artifact_location.rstrip("/")
        name, version, alias = _parse_model_uri(uri)
        if alias:
            version = str(client.get_model_version_by_alias(name, alias).version)
        return version, client.get_model_version_download_uri(name, version).rstrip("/")
    except (MlflowException, OSError) as error:
        known = _known_models(client) if "Registered Model with name" in str(error) else ""
        raise TrackingError(f"{uri} cannot be loaded: {error}{known}") from error


def _known_models(client: MlflowClient) -> str:
    """The names of the registered models, for the message about one that does not exist."""
    names = [model.name for model in client.search_registered_models(max_results=10)]
    return (
        f"; the registered models are {', '.join(names)}"
        if names
        else "; train first: recsys train"
    )


def _query_database(uri: str) -> tuple[str, str] | None:
    """Look up a URI in the tables of an SQLite store; None leaves it to MLflow."""
    is_run = uri.startswith("runs:")
    values = (uri.removeprefix("runs:/"),) if is_run else _parse_model_uri(uri)
    database = _database_path()
    if database is None:
        return None
    try:
        with closing(_open_read_only(database)) as file:
            rows = file.execute(_RUN_QUERY if is_run else _MODEL_QUERY, values).fetchall()
            _require_whole_pages(database, file)
    except sqlite3.Error:
        return None
    return (str(rows[0][0]), str(rows[0][1]).rstrip("/")) if len(rows) == 1 else None


def _database_path() -> Path | None:
    """Return the SQLite database that holds both runs and models; None if there is none."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    registry = os.environ.get("MLFLOW_REGISTRY_URI") if uri else None
    address = _address()
    is_plain = address.startswith(_SQLITE) and not {"?", "%"} & set(address)
    if not is_plain or registry not in (None, "", uri) or "MLFLOW_ENABLE_WORKSPACES" in os.environ:
        return None
    path = Path(address.removeprefix(_SQLITE))
    return path if path.is_file() else None


def _parse_model_uri(uri: str) -> tuple[str, ...]:
    """Split a URI into model name, version and alias; the version or the alias is empty."""
    match = _MODEL_URI.fullmatch(uri)
    if match is None:
        raise TrackingError(
            f"{uri!r} names no model: write models:/<name>@<alias> or models:/<name>/<version>"
        )
    return match.groups(default="")
