import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from recsys.errors import ConfigError, TrackingError
from recsys.tracking import fetch_bundle, learning_curves, start_run, version_of
from recsys.tracking.journal import get_or_create_experiment
from recsys.tracking.store import connect


def test_missing_store_is_an_error_with_the_remedy(home):
    with pytest.raises(TrackingError, match="train a model first"):
        connect()
    assert not list(home.iterdir()), "nothing is created"


RECORD = """
import sys
from recsys.tracking import start_run
with start_run(sys.argv[1], "shared") as run:
    run.log_metrics({"x": 1.0})
"""


def test_concurrent_processes_create_one_store(home):
    names = ["run 0", "run 1"]
    Path("mlflow/.new-of-a-killed-one").mkdir(parents=True)
    workers = [subprocess.Popen([sys.executable, "-c", RECORD, name]) for name in names]
    assert [worker.wait() for worker in workers] == [0, 0]
    client = connect()
    runs = client.search_runs([get_or_create_experiment(client, "shared")])
    assert sorted(run.info.run_name for run in runs) == names
    assert {run.data.metrics["x"] for run in runs} == {1.0}
    assert [path.name for path in (home / "mlflow").iterdir()] == ["mlflow.db"]


def test_environment_selects_another_store(home, monkeypatch):
    elsewhere = home / "elsewhere.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{elsewhere}")
    client = connect(create=True)
    get_or_create_experiment(client, "there")
    assert elsewhere.exists()
    assert not Path("mlflow").exists()


def test_missing_models_and_runs_are_named_in_the_error(store, tmp_path):
    with pytest.raises(TrackingError, match="models:/nobody@champion cannot be loaded"):
        fetch_bundle("models:/nobody@champion", tmp_path)
    with pytest.raises(TrackingError, match="runs:/0123 cannot be loaded"):
        fetch_bundle("runs:/0123", tmp_path)
    with pytest.raises(TrackingError, match="names no model"):
        fetch_bundle("models:/recsys", tmp_path)


def test_deleted_experiment_is_an_error(store):
    client = connect()
    client.delete_experiment(get_or_create_experiment(client, "old"))
    with pytest.raises(TrackingError, match="deleted"):
        get_or_create_experiment(client, "old")


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")],
)
def test_run_status_follows_its_block(store, error, status):
    try:
        with start_run("a", "e") as run, run.child("b") as child:
            child.on_epoch(1, {"loss": 2.0})
            child.on_epoch(2, {"loss": 1.0})
            if error:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    client = connect()
    assert client.get_run(run.run_id).info.status == status
    assert client.get_run(child.run_id).info.status == status
    losses = client.get_metric_history(child.run_id, "epoch/loss")
    assert [(metric.step, metric.value) for metric in losses] == [(1, 2.0), (2, 1.0)]


def test_learning_curves_are_grouped_by_child_run(store):
    with start_run("a", "e") as run:
        for name in ("lstm", "data"):
            with run.child(name) as child:
                for epoch, loss in enumerate([3.0, 2.0, 1.5], start=1):
                    child.on_epoch(epoch, {"train_loss" if name == "lstm" else "rows": loss})
        assert learning_curves(run) == {"lstm": {"train_loss": [3.0, 2.0, 1.5]}}


@pytest.mark.parametrize("uri", ["foo://bar", "http://[::1", " "])
def test_a_uri_that_mlflow_cannot_use_is_named(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ConfigError, match=f"MLFLOW_TRACKING_URI is {re.escape(repr(uri))}: ."):
        connect()


def test_reading_creates_no_database(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/new/runs.db")
    with pytest.raises(TrackingError, match="no runs are recorded in"):
        connect()
    assert not (tmp_path / "new").exists()


def test_a_database_that_lost_a_byte_is_not_read(store):
    database = Path("mlflow/mlflow.db")
    database.write_bytes(database.read_bytes()[:-1])
    for use in (connect, partial(version_of, "models:/recsys@champion")):
        with pytest.raises(TrackingError, match=r"mlflow\.db is damaged \(its end is missing\)"):
            use()


def test_an_emptied_database_is_not_a_new_one(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    connect(create=True)
    (tmp_path / "mlflow" / "mlflow.db").write_bytes(b"")
    for create in (False, True):
        with pytest.raises(TrackingError, match=r"mlflow\.db is empty: restore a copy"):
            connect(create=create)
