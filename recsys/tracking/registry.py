"""Registered models: versions of a bundle, with the aliases `champion` and `challenger`.

The files of a model are MLflow's metadata, the code with which MLflow's scoring server serves it
(`pyfunc.py`, `code/`) and the bundle (`artifacts/bundle/`). `recsys.load_recommender` reads the
bundle alone and runs no code of the model.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import mlflow.pyfunc
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from recsys.config import CHAMPION_ALIAS
from recsys.errors import NetworkError, RecsysError
from recsys.recommender.bundle import Bundle, load_bundle
from recsys.storage import installed_versions, writing
from recsys.tracking import pyfunc
from recsys.tracking.descriptions import CHAMPION_TAG, describe_model
from recsys.tracking.runs import DATA_CONFIG_TAG, INPUTS_TAG, Run, remove_incomplete_models
from recsys.tracking.store import BUNDLE, connect, model_id_of

CHALLENGER_ALIAS = "challenger"
"""Alias of the latest version that is not the champion."""

REQUIREMENTS = (
    *("lazy-loader", "mlflow", "numpy", "pandas", "pyarrow"),
    *("pydantic", "rapidfuzz", "safetensors", "scipy"),
)
"""Libraries that serving imports. A model is pinned to the versions that it was logged with."""


@dataclass(frozen=True)
class ChampionVersion:
    """The champion of a registered model, with data of the run that made it."""

    version: str
    params: Mapping[str, str]
    source: str | None = None
    """Folder or file of its training data; None if it was not recorded."""
    data_config: str | None = None
    """How that was read, as JSON; None if it was not recorded."""
    run_id: str | None = None
    """The run; None if it was removed."""
    inputs: str | None = None
    """The digest of its data and settings, of `tag_inputs`."""


def log_bundle(run: Run, folder: Path) -> str:
    """Log a bundle as the model of a run, ready to be registered and served.

    Returns the id of the logged model, as in `models:/<id>`. A run has one: if it was logged
    before, nothing is sent.

    Raises:
        BundleError: the folder does not contain a complete bundle.
        NetworkError: the store does not answer. What it took of the model is removed if possible.
        StorageError: the disk is full, likewise.
    """
    bundle = load_bundle(folder)
    mlflow_run = run.client.get_run(run.run_id)
    if mlflow_run.outputs and mlflow_run.outputs.model_outputs:
        return model_id_of(run.client, run.run_id)
    remove_incomplete_models(run.client, mlflow_run)  # of an attempt that was cut
    created = run.client.create_logged_model(
        run.experiment_id, "recommender", source_run_id=run.run_id, model_type="recommender"
    )
    model_id = str(created.model_id)
    try:
        _log_files(run, bundle, folder, model_id)
    except BaseException:
        # Best effort: what fails is the store itself. The rest of a model cannot be registered.
        with suppress(RecsysError, MlflowException):
            remove_incomplete_models(run.client, mlflow_run)
        raise
    run.client.finalize_logged_model(model_id, "READY")
    run.client.log_outputs(run.run_id, [LoggedModelOutput(model_id, step=0)])
    return model_id


def _log_files(run: Run, bundle: Bundle, folder: Path, model_id: str) -> None:
    versions = installed_versions(*REQUIREMENTS)
    with writing(tempfile.gettempdir()), tempfile.TemporaryDirectory() as tmp_folder:
        mlflow.pyfunc.save_model(
            path=f"{tmp_folder}/model",
            python_model=pyfunc.__file__,
            artifacts={BUNDLE: str(folder)},
            code_paths=[str(Path(__file__).parents[1])],
            pip_requirements=[f"{name}=={version}" for name, version in versions.items()],
            signature=pyfunc.signature(bundle),
            input_example=pyfunc.input_example(bundle),
            mlflow_model=Model(run_id=run.run_id, model_id=model_id, model_uuid=model_id),
        )
        run.client.log_model_artifacts(model_id, f"{tmp_folder}/model")


def register(run: Run, model_name: str, description: str) -> str:
    """Register the model of a run as the next version, the challenger, and return the version.

    Args:
        run: the run that logged the model.
        model_name: the registered model, which is created if it does not exist.
        description: the decision about the version, with the reason.

    Raises:
        TrackingError: the run has no model.
    """
    client = run.client
    model_id = model_id_of(client, run.run_id)
    if not client.search_registered_models(f"name = '{model_name}'"):
        try:
            client.create_registered_model(model_name, description=describe_model(model_name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # by another process, just now
                raise
    source = client.get_logged_model(model_id).artifact_location
    created = client.create_model_version(
        model_name, source, run.run_id, description=description, model_id=model_id
    )
    version = str(created.version)
    # The UI reads this tag to link the run and its model with the version.
    versions = json.dumps([{"name": model_name, "version": version}])
    client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: versions})
    _set_alias(client, model_name, CHALLENGER_ALIAS, version)
    run.add_note(f"**Version {version} of {model_name}**: {description}.")
    _mark_champion(client, model_name)  # the alias may have been moved by hand
    return version


def promote(run: Run, model_name: str, version: str) -> None:
    """Make a version the champion."""
    _set_alias(run.client, model_name, CHAMPION_ALIAS, version)
    aliases = run.client.get_registered_model(model_name).aliases
    if str(aliases.get(CHALLENGER_ALIAS)) == version:
        run.client.delete_registered_model_alias(model_name, CHALLENGER_ALIAS)
    _mark_champion(run.client, model_name)


def _mark_champion(client: MlflowClient, model_name: str) -> None:
    """Tag the run of the champion, and no other run, for the list of runs.

    Best effort, for what counts is the alias. The next registration repairs a mark.
    """
    mark = f"champion of {model_name}"
    with suppress(NetworkError, MlflowException):
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        for run in client.search_runs(experiments, f"tags.{CHAMPION_TAG} = '{mark}'"):
            client.delete_tag(run.info.run_id, CHAMPION_TAG)
        champion = client.get_model_version_by_alias(model_name, CHAMPION_ALIAS)
        client.set_tag(str(champion.run_id), CHAMPION_TAG, mark)


def _set_alias(client: MlflowClient, model_name: str, alias: str, version: str) -> None:
    try:
        client.set_registered_model_alias(model_name, alias, version)
    except MlflowException:  # another process has created the alias since MLflow looked for it
        client.set_registered_model_alias(model_name, alias, version)


def find_champion(model_name: str) -> ChampionVersion | None:
    """Return the champion of a model; None if there is none."""
    client = connect(create=True)
    models = client.search_registered_models(f"name = '{model_name}'")
    if not models or CHAMPION_ALIAS not in models[0].aliases:
        return None
    version = str(models[0].aliases[CHAMPION_ALIAS])  # an integer in a local store
    try:
        run = client.get_run(str(client.get_model_version(model_name, version).run_id))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return ChampionVersion(version, {})  # its run was removed
    datasets = run.inputs.dataset_inputs if run.inputs else []
    source = str(json.loads(datasets[0].dataset.source)["uri"]) if datasets else None
    config = run.data.tags.get(DATA_CONFIG_TAG)
    inputs = run.data.tags.get(INPUTS_TAG)
    return ChampionVersion(version, dict(run.data.params), source, config, run.info.run_id, inputs)


def has_versions(model_name: str) -> bool:
    """Whether any version of a model was registered."""
    return bool(connect(create=True).search_model_versions(f"name = '{model_name}'", max_results=1))
