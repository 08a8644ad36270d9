import subprocess
import sys
from pathlib import Path

import pytest

from recsys.errors import TrackingError
from recsys.tracking import fetch_bundle, learning_curves, start_run
from recsys.tracking.store import connect, experiment_id


def test_without_a_store_the_remedy_is_told(home):
    with pytest.raises(TrackingError, match="train first"):
        connect()
    assert not list(home.iterdir()), "asking makes nothing"


RECORD = """
import sys
from recsys.tracking import start_run
with start_run(sys.argv[1], "shared") as run:
    run.log_metrics({"x": 1.0})
"""


def test_processes_that_start_at_once_share_one_new_store(home):
    names = ["run 0", "run 1"]
    workers = [subprocess.Popen([sys.executable, "-c", RECORD, name]) for name in names]
    assert [worker.wait() for worker in workers] == [0, 0]
    client = connect()
    runs = client.search_runs([experiment_id(client, "shared")])
    assert sorted(run.info.run_name for run in runs) == names
    assert {run.data.metrics["x"] for run in runs} == {1.0}
    assert [path.name for path in (home / "mlflow").iterdir()] == ["mlflow.db"]


def test_the_environment_names_another_store(home, monkeypatch):
    elsewhere = home / "elsewhere.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{elsewhere}")
    client = connect()
    experiment_id(client, "there")
    assert elsewhere.exists()
    assert not Path("mlflow").exists()


def test_what_cannot_be_found_is_named(store, tmp_path):
    with pytest.raises(TrackingError, match="models:/nobody@champion cannot be loaded"):
        fetch_bundle("models:/nobody@champion", tmp_path)
    with pytest.raises(TrackingError, match="runs:/0123 cannot be loaded"):
        fetch_bundle("runs:/0123", tmp_path)
    with pytest.raises(TrackingError, match="names no model"):
        fetch_bundle("models:/recsys", tmp_path)


def test_a_deleted_experiment_is_told(store):
    client = connect()
    client.delete_experiment(experiment_id(client, "old"))
    with pytest.raises(TrackingError, match="deleted"):
        experiment_id(client, "old")


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")],
)
def test_a_run_ends_as_its_block_does(store, error, status):
    try:
        with start_run("a", "e") as run, run.child("b") as stage:
            stage.on_epoch(1, {"loss": 2.0})
            stage.on_epoch(2, {"loss": 1.0})
            if error:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    client = connect()
    assert client.get_run(run.run_id).info.status == status
    assert client.get_run(stage.run_id).info.status == status
    losses = client.get_metric_history(stage.run_id, "epoch/loss")
    assert [(metric.step, metric.value) for metric in losses] == [(1, 2.0), (2, 1.0)]


def test_learning_curves_are_read_back_by_stage(store):
    with start_run("a", "e") as run:
        for name in ("lstm", "data"):
            with run.child(name) as stage:
                for epoch, loss in enumerate([3.0, 2.0, 1.5], start=1):
                    stage.on_epoch(epoch, {"train_loss" if name == "lstm" else "rows": loss})
        assert learning_curves(run) == {"lstm": {"train_loss": [3.0, 2.0, 1.5]}}
