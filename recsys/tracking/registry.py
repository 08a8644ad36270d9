"""Registered models: versions of a bundle, one the champion, the latest other the challenger."""

from __future__ import annotations

import json
from pathlib import Path

from mlflow import MlflowClient, artifacts
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from recsys.errors import TrackingError
from recsys.tracking import notes
from recsys.tracking.models import BUNDLE, BUNDLE_PATH
from recsys.tracking.runs import Run
from recsys.tracking.store import connect

CHAMPION = "champion"
"""The alias of the version in use."""

CHALLENGER = "challenger"
"""The alias of the latest version that is not the champion."""


def register(run: Run, model_name: str, description: str) -> str:
    """Register the model of a run as the next version; gives back the version.

    It is the challenger until it is promoted or another comes.

    Args:
        run: whose model it is.
        model_name: the registered model, which is made if need be.
        description: what was decided about the version, and why.

    Raises:
        TrackingError: the run has no model.
    """
    client = run.client
    model_id = _model_of(client, run.run_id)
    if model_id is None:
        raise TrackingError(f"run {run.run_id} has no model to register: log_bundle comes first")
    if _find(client, model_name) is None:
        client.create_registered_model(model_name, description=notes.of_model(model_name))
    source = client.get_logged_model(model_id).artifact_location
    created = client.create_model_version(
        model_name, source, run.run_id, description=description, model_id=model_id
    )
    version = str(created.version)
    # By this the UI links the run and its model with the version.
    told = [{"name": model_name, "version": version}]
    client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: json.dumps(told)})
    client.set_registered_model_alias(model_name, CHALLENGER, version)
    run.add_note(notes.of_version(model_name, version, description))
    return version


def promote(run: Run, model_name: str, version: str) -> None:
    """Make a version the champion."""
    run.client.set_registered_model_alias(model_name, CHAMPION, version)
    if _aliases(run.client, model_name).get(CHALLENGER) == version:
        run.client.delete_registered_model_alias(model_name, CHALLENGER)


def champion_version(run: Run, model_name: str) -> str | None:
    """The version that is champion now, if any."""
    return champion_of(run.client, model_name)


def champion_of(client: MlflowClient, model_name: str) -> str | None:
    """The version that is champion now, if any."""
    return _aliases(client, model_name).get(CHAMPION)


def _aliases(client: MlflowClient, model_name: str) -> dict[str, str]:
    model = _find(client, model_name)
    # A local store gives a number, a server gives text.
    return {} if model is None else {a: str(version) for a, version in model.aliases.items()}


def _find(client: MlflowClient, model_name: str) -> RegisteredModel | None:
    """A registered model, if there is one of that name.

    Asked for by name: a list of all comes in pages, and the first need not hold it.
    """
    found = client.search_registered_models(f"name = '{model_name}'")
    return found[0] if found else None


def version_of(uri: str) -> str:
    """The version that a URI of a registered model names at present.

    Args:
        uri: `models:/<name>@<alias>` or `models:/<name>/<version>`.

    Raises:
        TrackingError: there is no such model or alias, or the registry does not answer.
    """
    client = connect()
    try:
        name, version = _name_and_version(client, uri)
    except (MlflowException, OSError) as error:
        raise TrackingError(f"{uri} cannot be looked up: {error}") from error
    return f"{name} {version}"


def _model_of(client: MlflowClient, run_id: str) -> str | None:
    """The id of a run's model, if it has one."""
    outputs = client.get_run(run_id).outputs
    return outputs.model_outputs[-1].model_id if outputs and outputs.model_outputs else None


def fetch_bundle(uri: str, folder: Path) -> Path:
    """Copy the bundle that a URI names into a folder; gives back where it then is.

    Nothing but the bundle is copied, and nothing is run.

    Args:
        uri: `models:/<name>@<alias>`, `models:/<name>/<version>` or `runs:/<run id>[/<path>]`.
        folder: where to copy it, from the local store or from a server.

    Raises:
        TrackingError: there is no such model, version or run.
    """
    client = connect()
    try:
        return Path(
            artifacts.download_artifacts(
                artifact_uri=_artifact_uri(client, uri),
                tracking_uri=client.tracking_uri,
                dst_path=str(folder),
            )
        )
    except (MlflowException, OSError) as error:
        raise TrackingError(f"{uri} cannot be loaded: {error}") from error


def _artifact_uri(client: MlflowClient, uri: str) -> str:
    scheme, _, rest = uri.partition(":/")
    rest = rest.lstrip("/")
    if scheme == "runs":
        run_id, _, path = rest.partition("/")
        model_id = None if path else _model_of(client, run_id)
        if model_id is not None:
            return _bundle_in(client.get_logged_model(model_id).artifact_location)
        return f"{client.get_run(run_id).info.artifact_uri}/{path or BUNDLE}"
    return _bundle_in(client.get_model_version_download_uri(*_name_and_version(client, uri)))


def _name_and_version(client: MlflowClient, uri: str) -> tuple[str, str]:
    rest = uri.partition(":/")[2].lstrip("/")
    name, at, alias = rest.rpartition("@")
    if at:
        version = client.get_model_version_by_alias(name, alias).version
    else:
        name, _, version = rest.partition("/")
    if not name or not version:
        raise TrackingError(
            f"{uri!r} names no model: write models:/<name>@<alias> or models:/<name>/<version>"
        )
    return name, str(version)


def _bundle_in(location: str) -> str:
    """Where the bundle of a model is; older versions are the bundle itself."""
    location = location.rstrip("/")
    return location if location.endswith(f"/{BUNDLE}") else f"{location}/{BUNDLE_PATH}"
