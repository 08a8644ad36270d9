"""The train flow against a real Prefect server and a real MLflow store."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, PREFECT_API_URL

from flows.cache import CACHE_DIR
from flows.orchestration import flow_parameters
from flows.settings import read_settings
from flows.tasks.stages import count
from flows.train import train
from recsys import tracking
from recsys.cooccurrence import CooccurrenceConfig
from recsys.data import leave_last_out, read_ratings
from recsys.embeddings import EmbeddingConfig
from recsys.errors import BundleError
from recsys.loading import load_recommender
from recsys.sessions import SessionConfig
from recsys.sessions.checkpoint import load_checkpoint
from recsys.tracking.gc import old_folders, select_runs

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "cooccurrence": CooccurrenceConfig(min_rating=3.5),
    "embeddings": EmbeddingConfig(dim=8),
    "session_model": SessionConfig(embedding_dim=8, hidden_dim=16, epochs=2),
}
TOML = """
[cooccurrence]
min_rating = 3.5
[embeddings]
dim = 8
[session_model]
embedding_dim = 8
hidden_dim = 16
epochs = {epochs}
"""


@pytest.fixture(scope="module")
def run_ids(home):
    """The flow run twice with the same seed, the second time with an empty cache."""
    first = train(source="sample", **SETTINGS)
    shutil.rmtree("data/cache")
    return [first, train(source="sample", **SETTINGS)]


@pytest.fixture(scope="module")
def client(run_ids):
    return MlflowClient(f"sqlite:///{Path('mlflow/mlflow.db').resolve()}")


def children(client, run_id):
    parent = client.get_run(run_id)
    found = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'"
    )
    return {run.info.run_name: run for run in found}


def test_runs_are_nested_by_stage_and_model(client, run_ids):
    for run_id in run_ids:
        nested = children(client, run_id)
        assert set(nested) == {
            "data", "cooccurrence", "embeddings", "lstm", "popularity", "markov", "item-knn",
            "ease", "als", "mean-embedding",
        }  # fmt: skip
        assert {run.info.status for run in nested.values()} == {"FINISHED"}
        assert client.get_run(run_id).info.status == "FINISHED"
    experiments = {client.get_run(run_id).info.experiment_id for run_id in run_ids}
    assert len(experiments) == 1, "a second run joins the first in its experiment"


def test_params_metrics_data_and_files_are_recorded(client, run_ids):
    run = client.get_run(run_ids[0])
    assert run.data.params["session_model.epochs"] == "2"
    assert run.data.params["cooccurrence.min_rating"] == "3.5"
    assert run.inputs.dataset_inputs[0].dataset.name == "sample"
    assert len(run.inputs.dataset_inputs[0].dataset.digest) == 36
    names = {file.path for file in client.list_artifacts(run_ids[0])}
    assert names == {
        "comparison.json", "differences.json", "loss.png", "map.html", "map.png", "ranks",
        "report.html",
    }  # fmt: skip
    assert len(run.outputs.model_outputs) == 1
    note = run.data.tags["mlflow.note.content"]
    for text in (
        "**Version 1 of recsys**: validation ndcg_at_10",
        "| **lstm** |",
        "**Data**: sample, 80 users",
    ):
        assert text in note
    nested = children(client, run_ids[0])
    for model in ("lstm", "popularity", "item-knn", "als"):
        metrics = nested[model].data.metrics
        for name in ("hit_rate", "ndcg", "mrr"):
            for k in (5, 10, 20):
                assert 0 <= metrics[f"validation_{name}_at_{k}"] <= 1
                assert 0 <= metrics[f"test_{name}_at_{k}"] <= 1
    lstm = nested["lstm"].info.run_id
    losses = client.get_metric_history(lstm, "epoch/train_loss")
    assert [metric.step for metric in losses] == [1, 2]
    assert len(client.get_metric_history(lstm, "epoch/ndcg_at_10")) == 2
    steps = client.get_metric_history(nested["embeddings"].info.run_id, "epoch/loss")
    assert len(steps) > 5
    assert steps[-1].value < steps[0].value


def test_the_parent_run_has_the_results_of_the_session_model(client, run_ids):
    parent = client.get_run(run_ids[0]).data.metrics
    lstm = children(client, run_ids[0])["lstm"].data.metrics
    assert {name: lstm[name] for name in parent} == parent


def test_the_same_seed_gives_the_same_metrics_to_the_last_digit(client, run_ids):
    first, second = (
        {
            (name, key): value
            for name, run in children(client, run_id).items()
            for key, value in run.data.metrics.items()
            if key != "epoch/interactions_per_second"
        }
        for run_id in run_ids
    )
    assert len(first) > 50
    assert first == second


def test_the_cache_of_a_run_is_in_use_as_long_as_the_run_is_kept(client, run_ids):
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    _, kept = select_runs(client, tomorrow, keep=5)
    assert old_folders(CACHE_DIR, tomorrow, kept) == []
    kinds = {folder.parent.name for folder, _, _ in old_folders(CACHE_DIR, tomorrow, [])}
    assert kinds >= {"checkpoints", "counts", "embeddings", "reports"}


@pytest.fixture(scope="module")
def process(run_ids):
    """A third run, in another process, with all cached results of the second."""
    Path("same.toml").write_text(TOML.format(epochs=2))
    return started("--source", "sample", "--config", "same.toml", cwd=Path.cwd())


@pytest.fixture(scope="module")
def again(client, run_ids, process):
    """The MLflow run of the third run."""
    assert process.returncode == 0, process.stderr
    experiment = client.get_run(run_ids[1]).info.experiment_id
    (latest,) = client.search_runs(
        [experiment], "tags.`mlflow.runName` LIKE 'train %'", max_results=1
    )
    assert latest.info.run_id not in run_ids
    return latest.info.run_id


CACHED = (
    "count co-occurrence",
    "fit embeddings",
    "popularity",
    "markov",
    "item-knn",
    "ease",
    "als",
    "mean-embedding",
)


def test_cached_results_are_not_computed_again(again):
    with get_client(sync_client=True) as api:
        (latest,) = api.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
    states = task_states(latest.name)
    assert {states[name] for name in CACHED} == {"Cached"}
    assert states["read ratings"] == states["train session model"] == "Completed"


def test_a_run_from_the_cache_records_the_same(client, run_ids, again):
    before, after = (children(client, run_id) for run_id in (run_ids[1], again))
    assert set(before) == set(after)
    for name in set(before) - {"lstm"}:  # its metrics include the speed
        assert recorded(client, before[name]) == recorded(client, after[name])
    assert len(recorded(client, after["embeddings"])["curves"]["epoch/loss"]) > 5


def test_runs_are_tagged_with_cached_results(client, run_ids, again):
    tags, cached = (
        {
            name: run.data.tags["cached_from"].rpartition("/")[0]
            for name, run in children(client, run_id).items()
            if "cached_from" in run.data.tags
        }
        for run_id in (run_ids[1], again)
    )
    assert tags == {}
    baselines = dict.fromkeys(CACHED[2:], "data/cache/reports")
    folders = {"cooccurrence": "data/cache/counts", "embeddings": "data/cache/embeddings"}
    assert cached == folders | baselines


def test_a_process_prints_the_table_and_a_line_per_epoch(process):
    for expected in ("NDCG@10", "HitRate@10", "MRR@10", "lstm", "item-knn", "als", "popularity"):
        assert expected in process.stdout
    assert "lstm: epoch 2/2, ndcg_at_10" in process.stderr, "a line per epoch without a terminal"


def recorded(client, run):
    """Params, curves and names of files of a run."""
    histories = {
        name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics
    }
    curves = {name: [(point.step, point.value) for point in h] for name, h in histories.items()}
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    return {"params": run.data.params, "curves": curves, "files": files}


def test_other_settings_recompute_only_what_depends_on_them(again):
    other = {**SETTINGS, "embeddings": EmbeddingConfig(dim=8, epochs=3)}
    train.with_options(flow_run_name="other")(source="sample", **other)
    states = task_states("other")
    assert states["count co-occurrence"] == "Cached"
    assert states["fit embeddings"] == states["mean-embedding"] == "Completed"


def damage_cache(kind, *, manifests):
    for manifest in Path("data/cache").glob(f"{kind}/*/manifest.json"):
        for file in manifest.parent.rglob("*.*"):
            if (file == manifest) == manifests:
                file.write_bytes(file.read_bytes().replace(b"bytes", b"bytez")[:-1])


def check_recomputed(kind, flow_run_name, messages):
    states = task_states(flow_run_name)
    made = {name for name in CACHED if states[name] == "Completed"}
    assert made == ({"fit embeddings"} if kind == "embeddings" else set(CACHED[2:]))
    warned = [text for text in messages if "The cached result is invalid" in text]
    assert len(warned) == len(made)
    assert all(f"data/cache/{kind}/" in text and "altered or damaged" in text for text in warned)


def test_damaged_reports_are_computed_again(again, caplog):
    damage_cache("reports", manifests=True)
    train.with_options(flow_run_name="reports")(source="sample", **SETTINGS)
    check_recomputed("reports", "reports", caplog.messages)


def test_a_model_that_only_equals_the_champion_is_not_promoted(client, run_ids):
    versions = client.search_model_versions("name='recsys'")
    assert {1, 2} <= {version.version for version in versions}
    champion = client.get_model_version_by_alias("recsys", "champion")
    assert (champion.version, champion.run_id) == (1, run_ids[0])


def test_the_champion_recommends(run_ids):
    rec = load_recommender("models:/recsys@champion")
    titles = rec.bundle.catalogue["title"]
    answer = rec.next_items([titles[0], titles[1]], k=10)
    assert len(answer) == 10
    assert not set(answer["title"]) & {titles[0], titles[1]}
    assert rec.bundle.metrics["validation"]["ndcg_at_10"] > 0
    same = load_recommender(f"runs:/{run_ids[0]}")
    assert same.next_items([titles[0], titles[1]]).equals(answer)


def test_a_damaged_champion_and_damaged_embeddings_are_replaced(client, run_ids, caplog):
    """The champion only if that is wanted: to be unreadable is not to be absent."""
    champion = client.get_model_version_by_alias("recsys", "champion")
    files = Path(champion.source.removeprefix("file://"))
    weights = files / "artifacts/bundle/session_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    with pytest.raises(BundleError, match="altered or damaged"):
        load_recommender("models:/recsys@champion")
    damage_cache("embeddings", manifests=False)
    versions = len(client.search_model_versions("name='recsys'"))
    with pytest.raises(BundleError, match=r"session_model\.safetensors.* or replace it"):
        train(source="sample", **SETTINGS)
    assert len(client.search_model_versions("name='recsys'")) == versions
    again = train.with_options(flow_run_name="embeddings")
    run_id = again(source="sample", replace_champion=True, **SETTINGS)
    check_recomputed("embeddings", "embeddings", caplog.messages)
    replaced = client.get_model_version_by_alias("recsys", "champion")
    assert replaced.version > champion.version
    assert replaced.run_id == run_id
    assert load_recommender().next_items([1]) is not None


def unfinished(client):
    experiment = client.get_experiment_by_name("sample, leave-last-out").experiment_id
    runs = client.search_runs([experiment], "attributes.status = 'RUNNING'")
    return {run.info.run_name: run for run in runs}


def wait_for_lstm(client, process):
    """Wait until a process trains the LSTM; return the runs in progress."""
    deadline = time.monotonic() + 300
    while "lstm" not in (running := unfinished(client)):
        assert process.poll() is None, "the run ended by itself"
        assert time.monotonic() < deadline, "the run did not reach the LSTM"
        time.sleep(0.2)
    return running


def checkpoints():
    return set(Path("data/cache/checkpoints").glob("*/training.safetensors"))


def test_a_killed_run_is_resumed_after_its_latest_epoch(client, home):
    (home / "long.toml").write_text(TOML.format(epochs=40))
    before = checkpoints()
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.train", "--source", "sample", "--config", "long.toml"],
        env={**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value(), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    killed = wait_for_lstm(client, process)
    while not checkpoints() - before:
        assert process.poll() is None, "the run ended by itself"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (parent,) = set(killed) - {"lstm"}
    assert parent.startswith("train ")
    (saved,) = checkpoints() - before
    done = load_checkpoint(saved.parent)[1]["epochs"]
    assert 0 < len(done) < 40

    run_id = train(
        **flow_parameters(train, read_settings(home / "long.toml", {"source": "sample"}))
    )
    assert not unfinished(client)
    for run in killed.values():
        assert client.get_run(run.info.run_id).info.status == "KILLED"
    lstm = children(client, run_id)["lstm"].info.run_id
    speeds = client.get_metric_history(lstm, "epoch/interactions_per_second")
    assert len(speeds) == 40
    # Speeds differ between runs, so equal ones show that the epochs are those of the killed run.
    assert [speed.value for speed in speeds[: len(done)]] == [
        epoch["interactions_per_second"] for epoch in done
    ]
    assert load_recommender().next_items([1]) is not None


def counts_files():
    return {path: path.stat().st_mtime_ns for path in Path("data/cache/counts").glob("*/*/*")}


def task_states(flow_run_name):
    with get_client(sync_client=True) as api:
        runs = api.read_task_runs(
            flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[flow_run_name]))
        )
    return {run.name: run.state_name for run in runs}


def test_counts_are_cached_until_their_files_are_removed(home):
    shutil.rmtree("data/cache/counts", ignore_errors=True)
    split = leave_last_out(read_ratings("sample"))

    @flow
    def only_count():
        with tracking.start_run("count", "cooccurrence") as run:
            return count(split, CooccurrenceConfig(min_rating=3), run)

    def state_of_counting(name):
        only_count.with_options(flow_run_name=name)()
        return task_states(name)["count co-occurrence"]

    assert state_of_counting("first") == "Completed"
    saved = counts_files()
    assert state_of_counting("again") == "Cached"
    assert counts_files() == saved
    shutil.rmtree("data/cache/counts")
    assert state_of_counting("gone") == "Completed"
    assert set(counts_files()) == set(saved)


def started(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "flows.train", *arguments],
        cwd=cwd,
        env={**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_mistake_is_an_error_without_a_traceback(home):
    done = started("--source", "nowhere", cwd=home)
    assert done.returncode == 1
    assert "no such file" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_ctrl_c_stops_with_one_line(home, client):
    """With Prefect's own temporary server, as `make run` has it, in the same process group."""
    (home / "long.toml").write_text(TOML.format(epochs=10_000))
    own = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    # Its tables copied, since creating them takes half a minute.
    (home / "prefect").mkdir()
    tables = PREFECT_API_DATABASE_CONNECTION_URL.value().split("///")[1]
    with sqlite3.connect(tables) as source, sqlite3.connect(home / "prefect/prefect.db") as copy:
        source.backup(copy)
    own |= {"PREFECT_HOME": str(home / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    own["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "300"
    before = checkpoints()
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.train", "--source", "sample", "--config", "long.toml"],
        env={**own, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    running = wait_for_lstm(client, process)
    deadline = time.monotonic() + 120
    while checkpoints() <= before:
        assert process.poll() is None, "the run ended by itself"
        assert time.monotonic() < deadline, "the first epoch did not end"
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted. The next run resumes after the latest epoch." in stderr
    assert "Traceback" not in stderr
    for run in running.values():
        assert client.get_run(run.info.run_id).info.status == "KILLED"
