"""The same calls against an MLflow server, named by the environment."""

import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

from recsys.bundle import save_bundle
from recsys.errors import TrackingError
from recsys.following import Following
from recsys.loading import load_recommender
from recsys.tracking import BUNDLE, champion_version, promote, register, start_run


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """An MLflow server of its own; gives its address."""
    folder = tmp_path_factory.mktemp("server")
    address = f"http://127.0.0.1:{(port := free_port())}"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", "sqlite:///store.db", "--artifacts-destination", "files"),
        ],
        cwd=folder,
        env={"PATH": "", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "DO_NOT_TRACK": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended by itself"
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
            break
        except OSError:
            time.sleep(0.2)
    yield address
    process.terminate()
    process.wait()


def test_a_bundle_goes_to_the_server_and_comes_back(server, bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    with start_run("pipeline", "remote") as run, run.child("lstm") as stage:
        stage.on_epoch(1, {"train_loss": 2.0})
        assert champion_version(run, "recsys") is None
        run.log_folder(save_bundle(bundle, tmp_path / "bundle"), BUNDLE)
        promote(run, "recsys", register(run, "recsys", "the first"))
        assert champion_version(run, "recsys") == "1"
    assert run.client.get_metric_history(stage.run_id, "train_loss")[0].value == 2.0
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(downloads))
    title = bundle.catalogue["title"][0]
    for uri in ("models:/recsys@champion", "models:/recsys/1", f"runs:/{run.run_id}"):
        rec = load_recommender(uri)
        assert rec.bundle.catalogue.equals(bundle.catalogue)
        assert len(rec.next_items([title])) == 10
    with Following("models:/recsys@champion", every=3600) as following:
        assert following.version == "recsys 1"
        with start_run("pipeline", "remote") as run:
            run.log_folder(tmp_path / "bundle", BUNDLE)
            promote(run, "recsys", register(run, "recsys", "the second"))
        assert following.look()
        assert following.version == "recsys 2"
        assert not following.look()
    with pytest.raises(TrackingError, match="nobody"):
        Following("models:/nobody@champion")
    assert not list(downloads.iterdir()), "what was downloaded is gone once it is loaded"
    assert not Path("mlflow").exists(), "nothing goes to the local store"
