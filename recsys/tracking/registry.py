"""Registered models: versions of a bundle, one of them the champion."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient, artifacts
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from recsys.errors import TrackingError
from recsys.tracking.runs import Run
from recsys.tracking.store import connect

CHAMPION = "champion"
"""The alias of the version in use."""

BUNDLE = "bundle"
"""The folder of a run that holds its bundle."""


def register(run: Run, model_name: str, description: str) -> str:
    """Register the bundle of a run as the next version of a model; gives back the version."""
    client = run.client
    if _find(client, model_name) is None:
        client.create_registered_model(model_name)
    source = f"{client.get_run(run.run_id).info.artifact_uri}/{BUNDLE}"
    created = client.create_model_version(model_name, source, run.run_id, description=description)
    return str(created.version)


def promote(run: Run, model_name: str, version: str) -> None:
    """Make a version the champion."""
    run.client.set_registered_model_alias(model_name, CHAMPION, version)


def champion_version(run: Run, model_name: str) -> str | None:
    """The version that is champion now, if any."""
    return champion_of(run.client, model_name)


def champion_of(client: MlflowClient, model_name: str) -> str | None:
    """The version that is champion now, if any."""
    model = _find(client, model_name)
    aliases = {} if model is None else dict(model.aliases)
    # A local store gives a number, a server gives text.
    return str(aliases[CHAMPION]) if CHAMPION in aliases else None


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


def fetch_bundle(uri: str, folder: Path) -> Path:
    """Copy the bundle that a URI names into a folder; gives back where it then is.

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
        return f"{client.get_run(run_id).info.artifact_uri}/{path or BUNDLE}"
    return str(client.get_model_version_download_uri(*_name_and_version(client, uri)))


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
