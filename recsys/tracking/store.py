"""Where runs and models are recorded: the server that the environment names, or a local store.

By default, runs go to `mlflow/mlflow.db` (SQLite) and files to `mlflow/artifacts`, below the
folder that the program is started in. `MLFLOW_TRACKING_URI` names any other MLflow store.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from pathlib import Path

# Before mlflow is imported: it would look up its telemetry server, also where there is none, and
# draw progress bars for copying a few files.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from recsys.errors import TrackingError
from recsys.tracking.views import page_tags

LOCAL_FOLDER = Path("mlflow")
DATABASE = "mlflow.db"
ARTIFACTS = "artifacts"


def is_local() -> bool:
    """Whether runs go to the local store rather than to one named by the environment."""
    return not os.environ.get("MLFLOW_TRACKING_URI")


def connect(*, create: bool = False) -> MlflowClient:
    """A client of the store.

    Args:
        create: make the local store if it is not there yet.

    Raises:
        TrackingError: there is no local store and it was not to be made.
    """
    if not is_local():
        return MlflowClient()
    database = (LOCAL_FOLDER / DATABASE).resolve()
    if not database.exists():
        if not create:
            raise TrackingError(
                f"no runs are recorded in {database.parent}: train first (`make run`), go to the "
                "folder where you did, or set MLFLOW_TRACKING_URI"
            )
        _create_database(database)
    uri = f"sqlite:///{database}"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _create_database(database: Path) -> None:
    """Make the database elsewhere and link it into place, whole.

    MLflow builds its tables by some forty migrations. Two processes that start at once would
    run them over each other, and one killed half-way would leave a database that neither works
    nor is made anew.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=database.parent) as work:
        draft = Path(work) / DATABASE
        MlflowClient(f"sqlite:///{draft}").search_experiments(max_results=1)
        with contextlib.closing(sqlite3.connect(draft)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with contextlib.suppress(FileExistsError):  # another process was first
            os.link(draft, database)


# Opens the experiment on the pages for training rather than on those for language models.
_KIND = {"mlflow.experimentKind": "custom_model_development"}


def experiment_id(client: MlflowClient, name: str) -> str:
    """The id of an experiment, which is made if it is not there yet.

    Raises:
        TrackingError: an experiment of that name was deleted.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        location = (LOCAL_FOLDER / ARTIFACTS).resolve().as_uri() if is_local() else None
        # Another process may have made it since: then it is found the second time.
        with contextlib.suppress(MlflowException):
            made = client.create_experiment(name, artifact_location=location, tags=_KIND)
            for tag, value in page_tags(made).items():
                client.set_experiment_tag(made, tag, value)
            return made
        found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise TrackingError(
            f"experiment {name!r} cannot be used (was it deleted?); "
            "restore it in MLflow or choose another name"
        )
    return str(found.experiment_id)


def running(client: MlflowClient, experiment: str) -> list[tuple[str, str]]:
    """Ids of the runs that count as running, with the process that each was started by."""
    runs = client.search_runs(
        [experiment], "attributes.status = 'RUNNING'", run_view_type=ViewType.ACTIVE_ONLY
    )
    return [(run.info.run_id, run.data.tags.get(PROCESS_TAG, "")) for run in runs]


PROCESS_TAG = "recsys.process"
"""Host and process id of whoever records a run."""
