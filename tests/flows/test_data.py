"""What the flow records about the ratings that it reads."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect import flow

from flows.tasks.data import read
from recsys import tracking
from recsys.data import DataConfig
from recsys.data.synthetic import SyntheticConfig, write_sample


@pytest.fixture
def recorded(home):
    """Ratings with invalid rows, read by the flow's task, and the run that records them."""
    folder = write_sample(home / "made", SyntheticConfig(n_users=40, n_items=200))
    path = folder / "ratings.csv"
    first = path.read_text().splitlines()[1].split(",")
    strange = [[*first[:2], "99", first[3]], ["", *first[1:]], [*first[:3], "soon"]]
    path.write_text(path.read_text() + "\n".join(map(",".join, strange)) + "\n")
    config = DataConfig.model_validate(
        {"filters": {"min_rating": 2}, "split": {"method": "leave_last_n", "n": 2}}
    )

    @flow
    def only_read():
        with tracking.start_run("read", "reading") as run:
            return read(str(folder), config, run)

    split = only_read()
    client = MlflowClient(f"sqlite:///{Path('mlflow/mlflow.db').resolve()}")
    experiment = client.get_experiment_by_name("reading").experiment_id
    (run,) = [one for one in client.search_runs([experiment]) if one.info.run_name == "data"]
    return split, client, run


def read_table(client, run, name):
    """The rows of a table of a run, without their index."""
    file = client.download_artifacts(run.info.run_id, f"{name}.json")
    return [row[1:] for row in json.loads(Path(file).read_text())["data"]]


def test_quarantined_and_filtered_rows_are_recorded(recorded):
    split, client, run = recorded
    metrics, params = run.data.metrics, run.data.params
    assert (metrics["rating_scale_rows"], metrics["missing_id_rows"]) == (1, 1)
    assert metrics["bad_timestamp_rows"] == 1
    assert metrics["used_rows"] == metrics["read_rows"] - 3
    assert metrics["min_rating_removed_rows"] == metrics["used_rows"] - len(split.interactions)
    assert params["data.split.n"] == "2"
    assert params["data.checks.duplicate"] == "quarantine"
    checks = {check for check, *_ in read_table(client, run, "checks")}
    assert {"rating_scale", "missing_id", "bad_timestamp"} <= checks
    profile = dict(read_table(client, run, "data"))
    assert profile["ratings"].startswith("range 0.5 to 5")
    assert "seconds since 1970" in profile["times"]
    file = client.download_artifacts(run.info.run_id, "profile.json")
    assert json.loads(Path(file).read_text())["n_used"] == metrics["used_rows"]
