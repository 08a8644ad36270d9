"""The same calls against an MLflow server, named by the environment."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from recsys.errors import TrackingError
from recsys.loading import AutoReloader, load_recommender
from recsys.recommender.bundle import save_bundle
from recsys.tracking import champion_version, log_bundle, promote, register, start_run
from recsys.tracking.cleaning import survey
from recsys.tracking.removal import bytes_of, remove


def test_a_bundle_goes_to_the_server_and_comes_back(server, bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    with start_run("pipeline", "remote") as run, run.child("lstm") as stage:
        stage.on_epoch(1, {"train_loss": 2.0})
        assert champion_version(run, "recsys") is None
        log_bundle(run, save_bundle(bundle, tmp_path / "bundle"))
        promote(run, "recsys", register(run, "recsys", "the first"))
        assert champion_version(run, "recsys") == "1"
    assert run.client.get_metric_history(stage.run_id, "epoch/train_loss")[0].value == 2.0
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(downloads))
    title = bundle.catalogue["title"][0]
    for uri in ("models:/recsys@champion", "models:/recsys/1", f"runs:/{run.run_id}"):
        rec = load_recommender(uri)
        assert rec.bundle.catalogue.equals(bundle.catalogue)
        assert len(rec.next_items([title])) == 10
    with AutoReloader("models:/recsys@champion", poll_interval=3600) as following:
        assert following.version == "recsys 1"
        with start_run("pipeline", "remote") as run:
            log_bundle(run, tmp_path / "bundle")
            promote(run, "recsys", register(run, "recsys", "the second"))
        assert following.poll()
        assert following.version == "recsys 2"
        assert not following.poll()
    with pytest.raises(TrackingError, match="nobody"):
        AutoReloader("models:/nobody@champion")
    assert not list(downloads.iterdir()), "what was downloaded is gone once it is loaded"
    assert not Path("mlflow").exists(), "nothing goes to the local store"


def test_it_listens_on_loopback_alone(server):
    """Started by the command of `make server`; that of `make ui` names the same address."""
    port = int(server.rpartition(":")[2])
    found = psutil.net_connections("inet")
    listening = [one for one in found if one.status == psutil.CONN_LISTEN]
    assert {one.laddr.ip for one in listening if one.laddr.port == port} == {"127.0.0.1"}
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    assert "mlflow server --host 127.0.0.1 " in makefile


def test_old_runs_leave_a_server_with_their_files(server, bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    folder = save_bundle(bundle, tmp_path / "bundle")
    with start_run("old", "remote, old") as run:
        log_bundle(run, folder)
        register(run, "old", "none")
        run.log_page("<html>", "page")
    run.client.delete_registered_model_alias("old", "challenger")
    found = survey(run.client, datetime.now(UTC), 0)
    (tree,) = [tree for tree in found.old if tree.root.info.run_name == "old"]
    assert bytes_of(run.client, tree) > sum(
        path.stat().st_size for path in folder.rglob("*") if path.is_file()
    )
    assert not remove(run.client, tree), "the rows are for the server to remove"
    assert run.client.get_run(run.run_id).info.lifecycle_stage == "deleted"
    assert not run.client.list_artifacts(run.run_id)
    assert not run.client.search_model_versions("name = 'old'")
    with pytest.raises(TrackingError):
        load_recommender(f"runs:/{run.run_id}")
