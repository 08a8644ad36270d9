"""Models: logged, registered, promoted, and loaded without running their code."""

import json
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from mlflow.models import Model
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from recsys.errors import BundleError, TrackingError
from recsys.loading import AutoReloader, load_recommender
from recsys.recommender.bundle import save_bundle
from recsys.tracking import (
    ChampionVersion,
    fetch_bundle,
    find_champion,
    has_versions,
    log_bundle,
    promote,
    register,
    start_run,
)
from recsys.tracking import store as tracking_store
from recsys.tracking.registry import REQUIREMENTS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(bundle, tmp_path):
    return save_bundle(bundle, tmp_path / "bundle")


def files_of(client, version):
    return Path(version.source.removeprefix("file://"))


def test_model_has_a_bundle_and_a_signature_but_no_pickle(store, bundle, folder):
    with start_run("pipeline", "e") as run:
        model_id = log_bundle(run, folder)
    model = run.client.get_logged_model(model_id)
    assert (model.name, model.source_run_id, str(model.status)) == (
        "recommender", run.run_id, "READY"
    )  # fmt: skip
    files = Path(model.artifact_location.removeprefix("file://"))
    suffixes = {path.suffix for path in files.rglob("*") if path.is_file()}
    assert not suffixes & {".pkl", ".pickle", ".pt", ".pth", ".joblib"}
    metadata = Model.load(str(files))
    assert metadata.flavors["python_function"]["loader_module"].endswith("code_model")
    inputs = metadata.signature.inputs.to_dict()
    assert {column["name"]: column["type"] for column in inputs} == {
        "history": "array",
        "similar_to": "string",
    }
    (answer,) = metadata.signature.outputs.to_dict()
    assert answer["items"]["properties"]["item_id"]["type"] == "long"
    example = json.loads((files / "serving_input_example.json").read_text())
    titles = bundle.catalogue["title"]
    assert example["dataframe_split"]["data"] == [[[titles[0], titles[1]]]]
    assert example["params"] == {"k": 10}
    pinned = (files / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in pinned] == list(REQUIREMENTS)


def test_requirements_cover_the_imports_of_serving():
    code = (
        "import sys; import recsys.tracking.pyfunc; "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    distributions = packages_distributions()
    imported = names(d for top in found.stdout.split() for d in distributions.get(top, ()))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert imported & names(project["dependencies"]) <= set(REQUIREMENTS)
    assert not imported & names(project["optional-dependencies"]["train"])


def names(requirements):
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def test_incomplete_bundle_is_not_logged(store, folder):
    (folder / "items.parquet").unlink()
    with start_run("pipeline", "e") as run:
        with pytest.raises(BundleError, match=r"items\.parquet"):
            log_bundle(run, folder)
        with pytest.raises(TrackingError, match="has no model"):
            register(run, "recsys", "none")
    assert not run.client.search_logged_models([run.experiment_id])


def test_challenger_is_the_latest_version_that_is_not_champion(store, folder):
    with start_run("pipeline", "e") as run:
        log_bundle(run, folder)
        for number in range(101):  # more models than fit on a page
            run.client.create_registered_model(f"a{number:03}")
        assert find_champion("recsys") is None

        def aliases():
            aliases = run.client.get_registered_model("recsys").aliases
            return {alias: str(version) for alias, version in aliases.items()}

        assert register(run, "recsys", "the first") == "1"
        assert aliases() == {"challenger": "1"}
        promote(run, "recsys", "1")
        assert aliases() == {"champion": "1"}
        assert register(run, "recsys", "the second: no better") == "2"
        assert register(run, "recsys", "the third") == "3"
        assert aliases() == {"champion": "1", "challenger": "3"}
        promote(run, "recsys", "3")
        assert aliases() == {"champion": "3"}
        assert find_champion("recsys").version == "3"
        assert find_champion("nobody") is None
    version = run.client.get_model_version("recsys", "2")
    assert version.description == "the second: no better"
    assert version.run_id == run.run_id
    assert "load_recommender" in run.client.get_registered_model("recsys").description
    note = run.client.get_run(run.run_id).data.tags["mlflow.note.content"]
    assert "**Version 2 of recsys**: the second: no better." in note


def test_the_run_of_the_champion_is_marked(store, folder):
    runs = []
    for number in "12":
        with start_run(f"pipeline {number}", f"data set {number}") as run:
            log_bundle(run, folder)
            assert register(run, "recsys", "a new one") == number
            runs.append(run)
    first, second = runs

    def marks():
        return [run.client.get_run(run.run_id).data.tags.get("champion", "") for run in runs]

    assert marks() == ["", ""]
    promote(first, "recsys", "1")
    assert marks() == ["champion of recsys", ""]
    promote(second, "recsys", "2")
    assert marks() == ["", "champion of recsys"]
    register(first, "films", "of another name")
    promote(first, "films", "1")
    assert marks() == ["champion of films", "champion of recsys"]
    first.client.set_registered_model_alias("recsys", "champion", "1")  # by hand
    register(second, "recsys", "no better")
    assert marks() == ["champion of recsys", ""]


def test_a_champion_whose_run_was_removed_is_still_the_champion(store, folder):
    assert not has_versions("recsys")
    with start_run("pipeline", "e") as run:
        log_bundle(run, folder)
        promote(run, "recsys", register(run, "recsys", "the first"))
    assert has_versions("recsys")
    with closing(sqlite3.connect("mlflow/mlflow.db")) as database, database:
        database.execute("DELETE FROM runs")
    assert find_champion("recsys") == ChampionVersion("1", {})


def test_loading_a_model_runs_none_of_its_code(store, bundle, folder, tmp_path):
    with start_run("pipeline", "e") as run:
        log_bundle(run, folder)
        promote(run, "recsys", register(run, "recsys", "the first"))
    version = run.client.get_model_version("recsys", "1")
    files = files_of(run.client, version)
    marker = tmp_path / "was-run"
    for program in [files / "pyfunc.py", *(files / "code").rglob("*.py")]:
        program.write_text(f"open({str(marker)!r}, 'w')")
    title = bundle.catalogue["title"][0]
    for uri in ("models:/recsys@champion", "models:/recsys/1", f"runs:/{run.run_id}"):
        assert len(load_recommender(uri).next_items([title])) == 10
    assert not marker.exists()
    fetched = fetch_bundle("models:/recsys@champion", tmp_path / "fetched")
    assert {path.name for path in fetched.iterdir()} == {path.name for path in folder.iterdir()}
    (files / "artifacts" / "bundle" / "items.parquet").write_bytes(b"altered")
    with pytest.raises(BundleError, match="altered or damaged"):
        load_recommender("models:/recsys@champion")


@pytest.fixture
def two_versions(store, folder):
    """A run with two registered versions of its model: the champion and the challenger."""
    with start_run("pipeline", "e") as run:
        log_bundle(run, folder)
        promote(run, "recsys", register(run, "recsys", "the first"))
        register(run, "recsys", "the second")
    return run


@pytest.mark.parametrize("uri", [None, "sqlite:///mlflow/mlflow.db"])
def test_a_reloader_keeps_to_its_store_if_the_folder_changes(two_versions, monkeypatch, uri):
    if uri is not None:  # relative, too
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    home = Path.cwd()
    with AutoReloader(poll_interval=3600) as reloader:
        assert reloader.version == "recsys 1"
        promote(two_versions, "recsys", "2")
        monkeypatch.chdir("/")
        for look_up in (True, False):  # without MLflow, and by MLflow
            if not look_up:
                promote(two_versions, "recsys", "1")
                monkeypatch.setattr(tracking_store, "_query_database", lambda _: None)
            assert reloader.poll()
            assert reloader.version == ("recsys 2" if look_up else "recsys 1")
        assert not Path("mlflow").exists()
    assert (home / "mlflow/mlflow.db").exists()


LOAD = """
import sys
from recsys import load_recommender
load_recommender(sys.argv[1]).next_items([])
print({"mlflow", "torch", "sklearn"} & set(sys.modules))
"""


def test_sqlite_store_is_read_without_mlflow_and_with_the_same_result(two_versions, monkeypatch):
    models = ("recsys@champion", "recsys@challenger", "recsys/1", "recsys/2")
    uris = [*(f"models:/{model}" for model in models), f"runs:/{two_versions.run_id}"]
    direct = [tracking_store._query_database(uri) for uri in uris]
    paths = [fetch_bundle(uri, Path("unused")) for uri in uris]
    assert not Path("unused").exists(), "local bundles are used in place"
    monkeypatch.setattr(tracking_store, "_database_path", lambda: None)
    assert [tracking_store._look_up(uri) for uri in uris] == direct
    assert [fetch_bundle(uri, Path("unused")) for uri in uris] == paths
    code = [sys.executable, "-c", LOAD, "models:/recsys@champion"]
    env = {"PATH": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(code, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_stores_that_cannot_be_read_directly_are_left_to_mlflow(two_versions, monkeypatch):
    query, uri = tracking_store._query_database, "models:/recsys@champion"
    expected = query(uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow/mlflow.db")
    assert query(uri) == expected
    for variable, value in [
        ("MLFLOW_TRACKING_URI", "http://127.0.0.1:1"),
        ("MLFLOW_TRACKING_URI", "sqlite:///mlflow/mlflow.db?timeout=1"),
        ("MLFLOW_REGISTRY_URI", "sqlite:///other.db"),
        ("MLFLOW_ENABLE_WORKSPACES", "true"),
    ]:
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            assert query(uri) is None
    assert query("models:/recsys@latest") is None
    assert query("models:/nobody/1") is None
    with closing(sqlite3.connect("mlflow/mlflow.db")) as database, database:
        database.execute("ALTER TABLE registered_model_aliases RENAME COLUMN alias TO label")
    assert query(uri) is None, "an unknown schema"
