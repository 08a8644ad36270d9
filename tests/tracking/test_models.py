"""Models: recorded with what serves them, registered, promoted, and read without running code."""

import json
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from mlflow.models import Model
from packaging.requirements import Requirement

from recsys.errors import BundleError, TrackingError
from recsys.loading import load_recommender
from recsys.recommender.bundle import save_bundle
from recsys.tracking import champion_version, fetch_bundle, log_bundle, promote, register, start_run
from recsys.tracking.models import REQUIREMENTS


@pytest.fixture
def folder(bundle, tmp_path):
    return save_bundle(bundle, tmp_path / "bundle")


def files_of(client, version):
    return Path(version.source.removeprefix("file://"))


def test_a_model_has_the_bundle_a_signature_and_no_pickle(store, bundle, folder):
    with start_run("pipeline", "e") as run:
        model_id = log_bundle(run, folder)
    model = run.client.get_logged_model(model_id)
    assert (model.name, model.source_run_id, str(model.status)) == (
        "recommender", run.run_id, "READY"
    )  # fmt: skip
    files = Path(model.artifact_location.removeprefix("file://"))
    suffixes = {path.suffix for path in files.rglob("*") if path.is_file()}
    assert not suffixes & {".pkl", ".pickle", ".pt", ".pth", ".joblib"}
    described = Model.load(str(files))
    assert described.flavors["python_function"]["loader_module"].endswith("code_model")
    inputs = described.signature.inputs.to_dict()
    assert {one["name"]: one["type"] for one in inputs} == {
        "history": "array",
        "similar_to": "string",
    }
    (answer,) = described.signature.outputs.to_dict()
    assert answer["items"]["properties"]["item_id"]["type"] == "long"
    example = json.loads((files / "serving_input_example.json").read_text())
    titles = bundle.catalogue["title"]
    assert example["dataframe_split"]["data"] == [[[titles[0], titles[1]]]]
    assert example["params"] == {"k": 10}
    pinned = (files / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in pinned] == list(REQUIREMENTS)


def test_a_model_asks_for_all_that_serving_imports():
    code = (
        "import sys; import recsys.tracking.served_model; "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    distributions = packages_distributions()
    imported = {name for top in found.stdout.split() for name in distributions.get(top, ())}
    ours = {Requirement(line).name for line in requires("recsys") if "extra ==" not in line}
    assert (imported & ours) - {"fastapi"} <= set(REQUIREMENTS)  # that is for MLflow to ask for


def test_what_is_no_bundle_is_not_recorded(store, folder):
    (folder / "items.parquet").unlink()
    with start_run("pipeline", "e") as run:
        with pytest.raises(BundleError, match=r"items\.parquet"):
            log_bundle(run, folder)
        with pytest.raises(TrackingError, match="has no model to register"):
            register(run, "recsys", "none")
    assert not run.client.search_logged_models([run.experiment])


def test_the_challenger_is_the_latest_that_is_not_champion(store, folder):
    with start_run("pipeline", "e") as run:
        log_bundle(run, folder)
        for number in range(101):  # more models than fit on a page of a list
            run.client.create_registered_model(f"a{number:03}")
        assert champion_version(run, "recsys") is None

        def aliases():
            found = run.client.get_registered_model("recsys").aliases
            return {alias: str(version) for alias, version in found.items()}

        assert register(run, "recsys", "the first") == "1"
        assert aliases() == {"challenger": "1"}
        promote(run, "recsys", "1")
        assert aliases() == {"champion": "1"}
        assert register(run, "recsys", "the second: no better") == "2"
        assert register(run, "recsys", "the third") == "3"
        assert aliases() == {"champion": "1", "challenger": "3"}
        promote(run, "recsys", "3")
        assert aliases() == {"champion": "3"}
        assert champion_version(run, "recsys") == "3"
        assert champion_version(run, "nobody") is None
    version = run.client.get_model_version("recsys", "2")
    assert version.description == "the second: no better"
    assert version.run_id == run.run_id
    assert "load_recommender" in run.client.get_registered_model("recsys").description
    note = run.client.get_run(run.run_id).data.tags["mlflow.note.content"]
    assert "**Version 2 of recsys**: the second: no better." in note


def test_loading_a_model_reads_its_bundle_and_runs_nothing(store, bundle, folder, tmp_path):
    with start_run("pipeline", "e") as run:
        log_bundle(run, folder)
        promote(run, "recsys", register(run, "recsys", "the first"))
    version = run.client.get_model_version("recsys", "1")
    files = files_of(run.client, version)
    trap = tmp_path / "sprung"
    for program in [files / "served_model.py", *(files / "code").rglob("*.py")]:
        program.write_text(f"open({str(trap)!r}, 'w')")
    title = bundle.catalogue["title"][0]
    for uri in ("models:/recsys@champion", "models:/recsys/1", f"runs:/{run.run_id}"):
        assert len(load_recommender(uri).next_items([title])) == 10
    assert not trap.exists()
    fetched = fetch_bundle("models:/recsys@champion", tmp_path / "fetched")
    assert {path.name for path in fetched.iterdir()} == {path.name for path in folder.iterdir()}
    (files / "artifacts" / "bundle" / "items.parquet").write_bytes(b"altered")
    with pytest.raises(BundleError, match="altered or damaged"):
        load_recommender("models:/recsys@champion")


def test_a_version_that_is_the_bundle_itself_is_read(store, bundle, folder):
    with start_run("pipeline", "e") as run:
        run.log_folder(folder, "bundle")
        source = f"{run.client.get_run(run.run_id).info.artifact_uri}/bundle"
        run.client.create_registered_model("recsys")
        run.client.create_model_version("recsys", source, run.run_id)
    for uri in ("models:/recsys/1", f"runs:/{run.run_id}"):
        assert load_recommender(uri).bundle.catalogue.equals(bundle.catalogue)
