"""The train flow against a real Prefect server and a real MLflow store."""

import os
import re
import shlex
import shutil
import signal
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
from prefect.settings import PREFECT_API_URL

from flows.cache import CACHE_DIR
from flows.orchestration import flow_parameters
from flows.settings import read_settings
from flows.tasks.stages import count
from flows.train import train
from recsys import tracking
from recsys.config import Runtime
from recsys.cooccurrence import CooccurrenceConfig
from recsys.data import leave_last_out, read_ratings
from recsys.embeddings import EmbeddingConfig
from recsys.errors import BundleError, DataError
from recsys.loading import load_recommender
from recsys.sessions import SessionConfig
from recsys.sessions.checkpoint import load_checkpoint
from recsys.tracking.gc import old_folders, select_runs

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "flows.train", "--source", "sample", "--config"]
SETTINGS = {
    "cooccurrence": CooccurrenceConfig(min_rating=3.5),
    "embeddings": EmbeddingConfig(dim=8),
    "session_model": SessionConfig(embedding_dim=8, hidden_dim=16, epochs=2),
    "runtime": Runtime(threads=2),  # the baselines alongside
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
[runtime]
threads = 2
"""


@pytest.fixture(scope="module")
def first(home):
    """The MLflow run of the first training, with an empty cache."""
    return train(source="sample", **SETTINGS)


@pytest.fixture(scope="module")
def client(first):
    return MlflowClient(f"sqlite:///{Path('mlflow/mlflow.db').resolve()}")


def environment(**variables):
    """The environment of another process, whose flow runs are on the same server."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    own |= {"PREFECT_API_URL": PREFECT_API_URL.value(), "PYTHONPATH": str(ROOT)}
    return own | variables


def children(client, run_id):
    parent = client.get_run(run_id)
    found = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'"
    )
    return {run.info.run_name: run for run in found}


def test_runs_are_nested_by_stage_and_model(client, first):
    nested = children(client, first)
    assert set(nested) == {
        "data", "cooccurrence", "embeddings", "lstm", "popularity", "markov", "item-knn",
        "ease", "als", "mean-embedding",
    }  # fmt: skip
    assert {run.info.status for run in nested.values()} == {"FINISHED"}
    assert client.get_run(first).info.status == "FINISHED"


def test_params_metrics_data_and_files_are_recorded(client, first):
    run = client.get_run(first)
    assert run.data.params["session_model.epochs"] == "2"
    assert run.data.params["cooccurrence.min_rating"] == "3.5"
    assert run.data.params["session_model.input_dropout"] == "0.2", "as used, not None"
    assert "session_model.item_dropout" not in run.data.params, "a default that is rarely changed"
    repeated = read_settings(Path(client.download_artifacts(run.info.run_id, "config.json")))
    assert repeated.session_model == SETTINGS["session_model"]
    assert run.inputs.dataset_inputs[0].dataset.name == "sample"
    assert len(run.inputs.dataset_inputs[0].dataset.digest) == 36
    names = {file.path for file in client.list_artifacts(first)}
    assert names == {
        "comparison.json", "config.json", "differences.json", "loss.png", "map.html", "map.png",
        "ranks", "report.html",
    }  # fmt: skip
    assert len(run.outputs.model_outputs) == 1
    note = run.data.tags["mlflow.note.content"]
    for text in (
        "**Version 1 of recsys**: validation ndcg_at_10",
        "| **lstm** |",
        "**Data**: sample, 80 users",
    ):
        assert text in note
    nested = children(client, first)
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


def test_the_parent_run_has_the_results_of_the_session_model(client, first):
    parent = client.get_run(first).data.metrics
    lstm = children(client, first)["lstm"].data.metrics
    assert {name: lstm[name] for name in parent} == parent


def test_the_cache_of_a_run_is_in_use_as_long_as_the_run_is_kept(client, first):
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    _, kept = select_runs(client, tomorrow, keep=5)
    assert old_folders(CACHE_DIR, tomorrow, kept) == []
    kinds = {folder.parent.name for folder, _, _ in old_folders(CACHE_DIR, tomorrow, [])}
    assert kinds >= {"checkpoints", "counts", "embeddings", "reports"}


@pytest.fixture(scope="module")
def process(first):
    """A second training in another process, with all cached results of the first."""
    Path("same.toml").write_text(TOML.format(epochs=2))
    done = subprocess.run(
        [*COMMAND, "same.toml"], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def again(client, first, process):
    """The MLflow run of the second training."""
    experiment = client.get_run(first).info.experiment_id  # it joins the first in its experiment
    (latest,) = client.search_runs(
        [experiment], "tags.`mlflow.runName` LIKE '%train %'", max_results=1
    )
    assert latest.info.run_id != first
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


def test_cached_results_are_not_computed_again(process):
    states = task_states(re.search(r"Flow run '([^']+)'", process.stderr)[1])
    assert {states[name] for name in CACHED} == {"Cached"}
    assert states["read ratings"] == states["train session model"] == "Completed"


def test_a_run_from_the_cache_records_the_same(client, first, again):
    before, after = (children(client, run_id) for run_id in (first, again))
    assert set(before) == set(after)
    for name in set(before) - {"lstm"}:  # its metrics include the speed
        assert recorded(client, before[name]) == recorded(client, after[name])
    assert len(recorded(client, after["embeddings"])["curves"]["epoch/loss"]) > 5


def cached_from(client, run_id):
    """The cached results that the child runs of a training are tagged with."""
    tags = {name: run.data.tags for name, run in children(client, run_id).items()}
    return {name: tag["cached_from"] for name, tag in tags.items() if "cached_from" in tag}


def test_runs_are_tagged_with_cached_results(client, first, again):
    assert cached_from(client, first) == {}
    baselines = dict.fromkeys(CACHED[2:], "data/cache/reports")
    folders = {"cooccurrence": "data/cache/counts", "embeddings": "data/cache/embeddings"}
    found = {name: tag.rpartition("/")[0] for name, tag in cached_from(client, again).items()}
    assert found == folders | baselines


def test_a_process_prints_the_table_and_a_line_per_epoch(process):
    for expected in ("NDCG@10", "HitRate@10", "MRR@10", "lstm", "item-knn", "als", "popularity"):
        assert expected in process.stdout
    assert "lstm: epoch 2/2, ndcg_at_10" in process.stderr, "a line per epoch without a terminal"


def test_a_process_ends_with_a_command_that_asks_the_model(process):
    (command,) = re.findall(r"Ask it: (.*)", process.stderr)
    program, name, option, uri, title = shlex.split(command)
    assert (Path(program).name, name, option, uri) == (
        "recsys",
        "next",
        "--model",
        "models:/recsys/2",
    )
    assert len(load_recommender(uri).next_items([title])) == 10


def recorded(client, run):
    """Params, curves and names of files of a run."""
    histories = {
        name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics
    }
    curves = {name: [(point.step, point.value) for point in h] for name, h in histories.items()}
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    return {"params": run.data.params, "curves": curves, "files": files}


def test_a_model_that_only_equals_the_champion_is_not_promoted(client, first, again):
    versions = client.search_model_versions("name='recsys'")
    assert {1, 2} <= {version.version for version in versions}
    champion = client.get_model_version_by_alias("recsys", "champion")
    assert (champion.version, champion.run_id) == (1, first)


def test_the_champion_recommends(first):
    rec = load_recommender("models:/recsys@champion")
    titles = rec.bundle.catalogue["title"]
    answer = rec.next_items([titles[0], titles[1]], k=10)
    assert len(answer) == 10
    assert not set(answer["title"]) & {titles[0], titles[1]}
    assert rec.bundle.metrics["validation"]["ndcg_at_10"] > 0
    same = load_recommender(f"runs:/{first}")
    assert same.next_items([titles[0], titles[1]]).equals(answer)


def damage(folder, *, manifests):
    for file in folder.rglob("*.*"):
        if (file.name == "manifest.json") == manifests:
            file.write_bytes(file.read_bytes().replace(b"bytes", b"bytez")[:-1])


def metrics_of(client, run_id):
    return {
        (name, key): value
        for name, run in children(client, run_id).items()
        for key, value in run.data.metrics.items()
        if key != "epoch/interactions_per_second"
    }


def test_a_damaged_champion_and_damaged_results_are_replaced(client, first, again, caplog):
    """The champion only if that is wanted: to be unreadable is not to be absent.

    What is computed again, with the same seed, is the same to the last digit.
    """
    champion = client.get_model_version_by_alias("recsys", "champion")
    files = Path(champion.source.removeprefix("file://"))
    weights = files / "artifacts/bundle/session_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    with pytest.raises(BundleError, match="altered or damaged"):
        load_recommender("models:/recsys@champion")
    versions = len(client.search_model_versions("name='recsys'"))
    with pytest.raises(BundleError, match=r"session_model\.safetensors.* or replace it"):
        train(source="sample", **SETTINGS)
    assert len(client.search_model_versions("name='recsys'")) == versions

    intact = {"cooccurrence", "popularity"}
    results = {name: Path(path) for name, path in cached_from(client, again).items()}
    for name in set(results) - intact:
        damage(results[name], manifests=name != "embeddings")
    shutil.rmtree("data/cache/checkpoints")
    run_id = train(source="sample", replace_champion=True, **SETTINGS)
    assert set(cached_from(client, run_id)) == intact
    warned = [text for text in caplog.messages if "The cached result is invalid" in text]
    assert len(warned) == len(set(results) - intact)
    assert all("data/cache/" in text and "altered or damaged" in text for text in warned)
    assert len(metrics_of(client, first)) > 50
    assert metrics_of(client, run_id) == metrics_of(client, first)

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


def test_a_failure_beside_it_ends_the_training_of_the_session_model(first, monkeypatch):
    def fail(*_):
        raise DataError("the map cannot be drawn")

    monkeypatch.setattr("flows.tasks.stages._draw_map", fail)
    before = checkpoints()
    long = SETTINGS["session_model"].model_copy(update={"epochs": 9_000})
    with pytest.raises(DataError, match="the map cannot be drawn"):
        train(source="sample", **SETTINGS | {"session_model": long})
    (path,) = checkpoints() - before
    _, metadata = load_checkpoint(path.parent)
    assert len(metadata["epochs"]) < 9_000


def test_a_killed_run_is_resumed_after_its_latest_epoch(client, home):
    """Only what depends on the other settings is computed: embeddings and what uses them."""
    settings = TOML.format(epochs=15).replace("dim = 8", "dim = 7", 1)
    (home / "long.toml").write_text(settings.replace("threads = 2", "threads = 1"))  # in order
    before = checkpoints()
    process = subprocess.Popen(
        [*COMMAND, "long.toml"],
        env=environment(),
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
    assert " · train " in parent
    (saved,) = checkpoints() - before
    done = load_checkpoint(saved.parent)[1]["epochs"]
    assert 0 < len(done) < 15

    settings = read_settings(home / "long.toml", {"source": "sample"})
    resumed = train.with_options(flow_run_name="resumed")
    run_id = resumed(**flow_parameters(train, settings))
    assert not unfinished(client)
    assert set(cached_from(client, killed[parent].info.run_id)) == {"cooccurrence"}
    assert set(cached_from(client, run_id)) == {"cooccurrence", "embeddings"}
    states = task_states("resumed")
    assert {states[name] for name in CACHED[:2]} == {"Cached"}
    assert {states[name] for name in CACHED[2:]} == {"Completed"}
    for run in killed.values():
        assert client.get_run(run.info.run_id).info.status == "KILLED"
    lstm = children(client, run_id)["lstm"].info.run_id
    speeds = client.get_metric_history(lstm, "epoch/interactions_per_second")
    assert len(speeds) == 15
    # Speeds differ between runs, so equal ones show that the epochs are those of the killed run.
    assert [speed.value for speed in speeds[: len(done)]] == [
        round(epoch["interactions_per_second"], 6) for epoch in done
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


def test_ctrl_c_stops_with_one_line(home, client, prefect_server):
    """With Prefect's own temporary server, as `make run` has it, in the same process group."""
    (home / "long.toml").write_text(TOML.format(epochs=10_000))
    (home / "prefect").mkdir()
    shutil.copy(prefect_server / "tables.db", home / "prefect/prefect.db")
    own = environment(PREFECT_HOME=str(home / "prefect"))
    own["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "300"
    del own["PREFECT_API_URL"]
    before = checkpoints()
    process = subprocess.Popen(
        [*COMMAND, "long.toml"],
        env=own,
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
    assert "telemetry" not in stderr
    assert "View at" not in stderr, "the server that it links to stops with the run"
    assert not unfinished(client)
    (parent,) = (name for name in running if " · train " in name)
    for name in ("lstm", parent):
        assert client.get_run(running[name].info.run_id).info.status == "KILLED"
