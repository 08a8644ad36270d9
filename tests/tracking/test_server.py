"""Runs, models and garbage collection on an MLflow server."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from recsys.errors import TrackingError
from recsys.loading import AutoReloader, load_recommender
from recsys.recommender.bundle import save_bundle
from recsys.tracking import find_champion, log_bundle, promote, register, start_run
from recsys.tracking.gc import remove_runs, select_runs, size_of


def test_bundle_is_logged_to_and_loaded_from_a_server(server, bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    with start_run("pipeline", "remote") as run, run.child("lstm") as child:
        child.on_epoch(1, {"train_loss": 2.0})
        assert find_champion("recsys") is None
        log_bundle(run, save_bundle(bundle, tmp_path / "bundle"))
        promote(run, "recsys", register(run, "recsys", "the first"))
        assert find_champion("recsys").version == "1"
    assert run.client.get_metric_history(child.run_id, "epoch/train_loss")[0].value == 2.0
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(downloads))
    title = bundle.catalogue["title"][0]
    for uri in ("models:/recsys@champion", "models:/recsys/1", f"runs:/{run.run_id}"):
        rec = load_recommender(uri)
        assert rec.bundle.catalogue.equals(bundle.catalogue)
        assert len(rec.next_items([title])) == 10
    with AutoReloader("models:/recsys@champion", poll_interval=3600) as reloader:
        assert reloader.version == "recsys 1"
        with start_run("pipeline", "remote") as run:
            log_bundle(run, tmp_path / "bundle")
            promote(run, "recsys", register(run, "recsys", "the second"))
        assert reloader.poll()
        assert reloader.version == "recsys 2"
        assert not reloader.poll()
    with pytest.raises(TrackingError, match="nobody"):
        AutoReloader("models:/nobody@champion")
    assert not list(downloads.iterdir()), "downloads are removed once they are loaded"
    assert not Path("mlflow").exists(), "nothing is written to the local store"


def test_server_binds_the_loopback_address_only(server):
    """The fixture runs the command of `make server`; `make ui` uses the same address."""
    port = int(server.rpartition(":")[2])
    connections = psutil.net_connections("inet")
    listening = [c for c in connections if c.status == psutil.CONN_LISTEN]
    assert {c.laddr.ip for c in listening if c.laddr.port == port} == {"127.0.0.1"}
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    assert "mlflow server --host 127.0.0.1 " in makefile


def test_gc_removes_the_files_of_runs_on_a_server(server, bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    folder = save_bundle(bundle, tmp_path / "bundle")
    with start_run("old", "remote, old") as run:
        log_bundle(run, folder)
        register(run, "old", "none")
        run.log_html("<html>", "page")
    run.client.delete_registered_model_alias("old", "challenger")
    to_remove, _ = select_runs(run.client, datetime.now(UTC), 0)
    (tree,) = [tree for tree in to_remove if tree.root.info.run_name == "old"]
    assert size_of(run.client, tree) > sum(
        path.stat().st_size for path in folder.rglob("*") if path.is_file()
    )
    assert not remove_runs(run.client, [tree]), "only the server can remove the rows"
    assert run.client.get_run(run.run_id).info.lifecycle_stage == "deleted"
    assert not run.client.list_artifacts(run.run_id)
    assert not run.client.search_model_versions("name = 'old'")
    with pytest.raises(TrackingError):
        load_recommender(f"runs:/{run.run_id}")
