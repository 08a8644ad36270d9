"""The flows `refresh`, `recommend` and `sweep`, also on a Dask cluster."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pandas as pd
import psutil
import pytest
import scipy.sparse as sp
from distributed import LocalCluster
from mlflow import MlflowClient
from prefect.settings import PREFECT_API_URL

from flows.cache import hash_files
from flows.recommend import recommend
from flows.refresh import refresh
from flows.settings import SearchSpace, WarmStart
from flows.sweep import sweep
from flows.train import train
from recsys.cooccurrence import CooccurrenceConfig, count_cooccurrence, open_blocks
from recsys.data import leave_last_out, read_ratings
from recsys.embeddings import EmbeddingConfig
from recsys.errors import DataError
from recsys.evaluation import PromotionRule
from recsys.loading import load_recommender
from recsys.sessions import SessionConfig
from recsys.tracking.compare import report_path

ROOT = Path(__file__).parents[2]
COUNTING = CooccurrenceConfig(min_rating=3.5)


@pytest.fixture(scope="module")
def cluster():
    """The address of a cluster of two workers, threads of this process."""
    with LocalCluster(n_workers=2, processes=False, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def champion(home, cluster):
    """Trained briefly, so that a challenger can be better."""
    train(
        "sample",
        cooccurrence=COUNTING,
        embeddings=EmbeddingConfig(dim=8),
        session_model=SessionConfig(embedding_dim=8, hidden_dim=16, epochs=1),
        cluster=cluster,
    )
    return load_recommender()


@pytest.fixture(scope="module")
def client(champion):
    return MlflowClient(f"sqlite:///{Path('mlflow/mlflow.db').resolve()}")


@pytest.fixture(scope="module")
def grown(champion, home):
    """The sample with a new item, which ten users have interacted with since."""
    shutil.copytree(home / "sample", home / "grown")
    movies = pd.read_csv(home / "grown/movies.csv")
    movies.loc[len(movies)] = {**movies.iloc[0], "movieId": 999, "title": "New Film (2026)"}
    movies.to_csv(home / "grown/movies.csv", index=False)
    ratings = pd.read_csv(home / "grown/ratings.csv")
    last = ratings.groupby("userId")["timestamp"].max().head(10)
    seen = [(user, 999, 5.0, time + 60) for user, time in last.items()]
    new = pd.DataFrame(seen, columns=["userId", "movieId", "rating", "timestamp"])
    pd.concat([ratings, new]).to_csv(home / "grown/ratings.csv", index=False)
    return "grown"


def counts_of(client, run_id):
    folder = Path("data/cache/counts") / client.get_run(run_id).data.params["counts"]
    return matrix_of(open_blocks(folder / "counts"))


def matrix_of(blocks):
    return sp.vstack([block.matrix for block in blocks], format="csr")


def test_unchanged_ratings_train_nothing(champion, client):
    versions = len(client.search_model_versions("name='recsys'"))
    assert refresh("sample") is None
    assert len(client.search_model_versions("name='recsys'")) == versions


def test_recommend_uses_the_ratings_of_the_champion_by_default(champion):
    """A flow that an event starts has no parameter `source`."""
    folder = recommend(day=date(2026, 11, 27))
    assert hash_files(Path("sample")) in Path(folder, "_manifest.json").read_text()
    assert pd.read_parquet(folder)["user_id"].nunique() == 80


def test_a_cluster_recommends_the_same(champion, cluster):
    found = [recommend(day=date(2026, 11, n), cluster=on) for n, on in ((28, cluster), (29, None))]
    first, second = (Path(folder, "part-000000.parquet").read_bytes() for folder in found)
    assert first == second


def without_last(folder, n_users):
    """A copy of the ratings without the last interaction of some users."""
    name = f"less {n_users}"
    shutil.copytree(folder, name)
    ratings = pd.read_csv(f"{name}/ratings.csv").sort_values("timestamp", kind="stable")
    last = ratings.groupby("userId").tail(1).sort_values("userId").head(n_users)
    ratings.drop(last.index).to_csv(f"{name}/ratings.csv", index=False)
    return name


def test_targets_that_the_champion_was_trained_on_are_dropped(champion, client, caplog):
    """Without the last interaction, a training interaction becomes the validation target."""
    run_id = refresh(without_last("sample", 7), warm_start=WarmStart(epochs=1))
    assert "7 of 80 validation targets" in caplog.text
    metrics = client.get_run(run_id).data.metrics
    assert metrics["validation_leaked_targets"] == 7
    ranks = client.download_artifacts(run_id, "ranks/validation.parquet")
    assert len(pd.read_parquet(ranks)) == 73
    with pytest.raises(DataError, match=r"80 of 80 validation targets.* run the flow `train`"):
        refresh(without_last("sample", 80))


def test_a_challenger_is_promoted_only_if_it_is_better(champion, client, grown, caplog):
    """Refresh with a threshold that no model reaches, then with the default."""
    modest = WarmStart(epochs=1, learning_rate=1e-6)
    rule = PromotionRule(min_improvement=1)
    first = refresh(grown, warm_start=modest, promotion=rule)
    assert "Updating earlier counts" in caplog.text
    exact = count_cooccurrence(leave_last_out(read_ratings(grown)).train, 3.5)
    assert (counts_of(client, first) != exact.matrix).nnz == 0
    (unpromoted,) = [v for v in client.search_model_versions("name='recsys'") if v.run_id == first]
    assert "not promoted" in unpromoted.description
    assert client.get_model_version_by_alias("recsys", "champion").run_id != first
    assert refresh(grown, promotion=rule) is None, "the latest version was trained on these ratings"
    assert f"since run {first}, whose model is not the champion" in caplog.text
    assert "the champion does not know 1 of the items" in unpromoted.description
    assert "max_decline promotes a model that is not worse" in unpromoted.description
    assert report_path(client, client.get_run(first), Path()).exists()

    second = refresh(  # with another rule
        grown, warm_start=WarmStart(epochs=10, learning_rate=0.01), include_user_histories=True
    )
    assert client.get_model_version_by_alias("recsys", "champion").run_id == second
    assert champion.bundle.user_histories is None
    promoted = load_recommender()
    assert 999 in promoted.bundle.items
    log = read_ratings(grown)
    history = set(log.items.ids[log.history(0)].tolist())
    best = promoted.recommend_user(log.users.ids[0], 3)["item_id"]
    assert len(best) == 3
    assert not history & set(best)


GRID = SearchSpace(embeddings={"dim": [4, 8]}, session_model={"hidden_dim": [8], "epochs": [1]})


def trials_of(client, run_id):
    run = client.get_run(run_id)
    file = client.download_artifacts(run_id, "trials.json")
    table = json.loads(Path(file).read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    experiment = [run.info.experiment_id]
    done = client.search_runs(experiment, f"tags.`mlflow.parentRunId` = '{run_id}'")
    processes = {run.info.run_name: run.data.tags["recsys.process"] for run in done}
    processes.pop("data")
    return {row["trial"]: row for row in rows}, processes


def test_a_sweep_runs_each_trial_once(home):
    first = sweep("sample", cooccurrence=COUNTING, search=GRID, cluster="2")
    client = MlflowClient(f"sqlite:///{Path('mlflow/mlflow.db').resolve()}")
    table, done = trials_of(client, first)
    assert str(os.getpid()) not in {process.partition(":")[2] for process in done.values()}
    assert set(done) == {
        "dim=4 embeddings",
        "dim=8 embeddings",
        "session_model",
    }
    assert {row["status"] for row in table.values()} == {"completed"}
    assert table["dim=8 embeddings"]["loss_ratio"] < 1.01

    # 99 > 60 items
    wider = SearchSpace(embeddings={"dim": [4, 8, 99]}, session_model=GRID.session_model)
    second = sweep("sample", cooccurrence=COUNTING, search=wider)
    again, done = trials_of(client, second)
    assert set(done) == {"dim=99 embeddings"}
    assert {name: row["status"] for name, row in again.items()} == {
        **dict.fromkeys(table, "cached"),
        "dim=99 embeddings": "failed",
    }
    key = "validation_ndcg_at_10"
    assert all(again[name][key] == row[key] for name, row in table.items())


@pytest.mark.parametrize(
    "stop",
    [pytest.param(signal.SIGKILL, marks=pytest.mark.chaos), signal.SIGINT],
    ids=["killed", "Ctrl-C"],
)
def test_a_sweep_that_is_stopped_leaves_no_process_behind(home, client, stop):
    Path("endless.toml").write_text("[search]\nembeddings = {}\nsession_model.epochs = [9999]\n")
    arguments = ["--source", "sample", "--config", "endless.toml", "--cluster", "1"]
    before = running(client)
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.sweep", *arguments],
        env={**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value(), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while "session_model" not in {name for name, _ in running(client) - before}:
        assert process.poll() is None, "the sweep ended by itself"
        assert time.monotonic() < deadline, "no trial was started"
        time.sleep(0.2)
    pool = psutil.Process(process.pid).children(recursive=True)
    assert pool
    if stop == signal.SIGINT:  # a terminal sends it to all processes
        os.killpg(process.pid, stop)
    else:
        process.send_signal(stop)
    assert process.wait(timeout=60) == (130 if stop == signal.SIGINT else -stop)
    _, alive = psutil.wait_procs(pool, timeout=60)
    assert not alive


def running(client):
    experiments = [each.experiment_id for each in client.search_experiments()]
    found = client.search_runs(experiments, "attributes.status = 'RUNNING'")
    return {(run.info.run_name, run.info.run_id) for run in found}
