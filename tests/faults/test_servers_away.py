"""MLflow or Prefect does not answer, or dies during a training: nothing trained is lost."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows import dev_servers
from flows.refresh import refresh
from flows.sync import sync
from flows.tasks.pending import send
from flows.tasks.registry import find_champion
from flows.train import train
from recsys.config import Runtime
from recsys.data.synthetic import SyntheticConfig, write_sample
from recsys.embeddings import EmbeddingConfig
from recsys.errors import ConfigError, NetworkError, RecsysError, TrackingError
from recsys.loading import load_recommender
from recsys.sessions import SessionConfig
from recsys.tracking import PENDING, replay, start_run, store
from recsys.tracking.store import connect
from tests.faults.test_corruption import damages, put, refusal
from tests.tracking.conftest import SETTINGS as SERVER_SETTINGS
from tests.tracking.conftest import find_free_port, running

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "source": "sample",
    "embeddings": EmbeddingConfig(dim=8, epochs=2),
    "session_model": SessionConfig(epochs=3, hidden_dim=16, embedding_dim=8),
    "runtime": Runtime(threads=1),
}
TOML = """source = "sample"
[embeddings]
dim = 8
epochs = 2
[session_model]
epochs = 3
hidden_dim = 16
embedding_dim = 8
[runtime]
threads = 1
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A project folder with a small sample, as the working directory; requests fail at once."""
    folder = tmp_path_factory.mktemp("home")
    write_sample(folder / "sample", SyntheticConfig(n_users=60, n_items=40, mean_events=20))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        yield folder


@contextmanager
def prefect_at(port, folder):
    """A real Prefect server with its own database, which can be killed."""
    server = dev_servers.prefect_server(port)
    environment = {**os.environ, **server.environment, "PREFECT_HOME": str(folder / "prefect")}
    command = [sys.executable, "-m", *server.command]
    with running(command, f"{server.address}/api/health", env=environment) as process:
        yield process, f"{server.address}/api"


class Mlflow:
    """An MLflow server that can be killed and started again."""

    def __init__(self, folder):
        self.folder, self.port = folder, find_free_port()
        self.address = f"http://127.0.0.1:{self.port}"

    @contextmanager
    def up(self):
        command = [
            sys.executable,
            "-m",
            *dev_servers.mlflow_server(self.port, SERVER_SETTINGS).command,
        ]
        command += ["--workers", "1", "--backend-store-uri", "sqlite:///store.db"]
        command += ["--artifacts-destination", "files"]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        with running(
            command, f"{self.address}/health", cwd=self.folder, env=environment
        ) as process:
            yield process


@pytest.fixture(scope="module")
def mlflow(home, tmp_path_factory, empty_database):
    server = Mlflow(tmp_path_factory.mktemp("server"))
    (server.folder / "store.db").write_bytes(empty_database.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server.address)
        yield server


def kill_when(condition, process):
    """Kill a server and its children as soon as a condition holds."""

    def watch():
        while not condition():
            time.sleep(0.01)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def record_of(client, run_id):
    """The child runs, parameters, curves and files of a run."""
    run = client.get_run(run_id)
    nested = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    everything = {"": run, **{child.info.run_name: child for child in nested}}
    assert {each.info.status for each in everything.values()} == {"FINISHED"}
    return {
        name: (
            each.data.params,
            {
                metric: [
                    (point.step, point.value)
                    for point in client.get_metric_history(each.info.run_id, metric)
                ]
                for metric in each.data.metrics
                if metric != "epoch/interactions_per_second"
            },
            {file.path for file in client.list_artifacts(each.info.run_id)},
        )
        for name, each in everything.items()
    }


def test_a_server_that_drops_connections_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store, "_CONNECT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as clients:
        address = server.getsockname()
        with suppress(TimeoutError):  # until no more fit in the queue
            while True:
                clients.enter_context(socket.create_connection(address, timeout=0.2))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{address[1]}")
        with pytest.raises(NetworkError, match=r"does not answer: .*timed out"):
            connect()


class Refuses(BaseHTTPRequestHandler):
    """A server that is not MLflow, or that lets nobody in."""

    def do_HEAD(self):
        self.send_response(self.status)
        self.end_headers()

    do_GET = do_POST = do_HEAD  # noqa: N815 – names of http.server

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (401, NetworkError, "the MLflow store at http://127.0.0.1:.* refuses a request: "),
        (403, NetworkError, "the MLflow store at http://127.0.0.1:.* refuses a request: "),
        (404, ConfigError, "MLFLOW_TRACKING_URI "),
    ],
)
def test_a_server_that_refuses_or_is_not_mlflow_is_named(
    tmp_path, monkeypatch, status, error, message
):
    monkeypatch.chdir(tmp_path)
    handler = type("Handler", (Refuses,), {"status": status})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setenv(
            "MLFLOW_TRACKING_URI", f"http://ann:secret@127.0.0.1:{server.server_port}"
        )
        for use in (load_recommender, lambda: start_run("a", "e").__enter__()):
            with pytest.raises(error, match=f"{message}.*error code {status}") as raised:
                use()
            assert "secret" not in str(raised.value)
        server.shutdown()


def assert_damage_is_noticed(folder, n):
    """Nothing is sent of a folder with a damaged file: the error that names it comes first."""
    journal, manifest = folder / "journal.jsonl", folder / "training/manifest.json"
    lines = journal.read_bytes().splitlines()
    required = json.loads(manifest.read_bytes())["n_writes"]
    assert required > 20
    for path in sorted(path for path in folder.rglob("*.*") if path.suffix != ".lock"):
        content = path.read_bytes()
        for name, damaged in damages(content, n):
            put(path, damaged)
            message = refusal(send, folder)
            if "does not answer" not in message:
                assert path.relative_to(folder).parts[0] in message, name
            elif path == journal:  # what is there was written, and only the end may be missing
                left = damaged.splitlines()
                assert left[:required] == lines[:required], name
                assert set(left) <= set(lines), name
            else:
                assert path.name == "manifest.json", f"{path}, {name}, was read"
                assert json.loads(damaged) == json.loads(content), name
        put(path, content)


def test_a_training_without_mlflow_waits_for_sync(
    home, prefect_server, monkeypatch, caplog, trials
):
    """It is sent to the local store, as to any other."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{find_free_port()}")
    monkeypatch.setattr(find_champion, "retry_delay_seconds", 0.1)
    waiting = train(**SETTINGS)
    assert waiting.startswith("pending-")
    assert "does not answer" in caplog.text
    assert "run `recsys sync` later" in caplog.text
    with pytest.raises(NetworkError, match="does not answer"):
        sync()
    (folder,) = PENDING.iterdir()
    answer = load_recommender(folder / "training/bundle").next_items([1])
    assert_damage_is_noticed(folder, trials(2, 100))
    moved = folder.rename("moved")  # to another disk
    folder.symlink_to(moved.resolve())
    (PENDING / "b").mkdir()

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackingError, match=r"pending/b was not sent: .*journal.jsonl was cut"):
        sync()
    assert [each.name for each in PENDING.iterdir()] == ["b"], "the other one was sent"
    assert not moved.exists()
    (PENDING / "b").rmdir()
    (version,) = connect().search_model_versions("name = 'recsys'")
    run_id = version.run_id
    assert "; promoted" in version.description
    assert load_recommender("models:/recsys@champion").next_items([1]).equals(answer)
    recorded = record_of(connect(), run_id)
    assert {"", "data", "lstm", "popularity"} < set(recorded)
    params, curves, files = recorded["lstm"]
    assert params["session_model.epochs"] == "3"
    assert [step for step, _ in curves["epoch/train_loss"]] == [1, 2, 3]
    assert {"loss.png", "segments.json", "ranks"} <= files
    assert recorded[""][1]["test_ndcg_at_10"] == curves["test_ndcg_at_10"]
    assert sync() == []


@pytest.mark.chaos
def test_a_run_whose_server_dies_is_whole_after_a_replay(tmp_path, monkeypatch, mlflow):
    monkeypatch.chdir(tmp_path)
    with mlflow.up() as process, start_run("train", "e", PENDING / "a") as run:
        run.log_params({"before": 1})
        with run.child("lstm") as child:
            child.on_epoch(1, {"train_loss": 3.0})
            child.flush()
            os.killpg(process.pid, signal.SIGKILL)
            child.on_epoch(2, {"train_loss": 2.0})
            child.log_html("<html>", "page")
        with run.child("als") as other:
            other.log_metrics({"test_ndcg_at_10": 0.5})
        run.add_note("after")
    assert run.pending == PENDING / "a"
    assert not run.run_id.startswith("pending-")
    assert other.run_id.startswith("pending-")
    with pytest.raises(NetworkError):
        replay(PENDING / "a")
    with mlflow.up():
        run_ids = replay(PENDING / "a")
        assert replay(PENDING / "a") == run_ids, "it may be interrupted and repeated"
        recorded = record_of(connect(), run.run_id)
    assert recorded[""][0] == {"before": "1"}
    assert recorded["lstm"][1]["epoch/train_loss"] == [(1, 3.0), (2, 2.0)]
    assert recorded["lstm"][2] == {"page.html"}
    assert recorded["als"][1] == {"test_ndcg_at_10": [(0, 0.5)]}


@pytest.mark.chaos
def test_a_model_whose_server_dies_during_a_training_is_judged_later(home, prefect_server, mlflow):
    client = MlflowClient(mlflow.address)
    with mlflow.up() as process:
        expected = record_of(client, train(**SETTINGS))
        known = set(Path("data/cache/checkpoints").iterdir())
        watcher = kill_when(lambda: set(Path("data/cache/checkpoints").iterdir()) - known, process)
        changed = SETTINGS["session_model"].model_copy(update={"learning_rate": 0.005})
        waiting = train(**{**SETTINGS, "session_model": changed})
        watcher.join()
    assert not waiting.startswith("pending-"), "the run was begun on the server"
    with pytest.raises(NetworkError):
        refresh(source="sample")
    with mlflow.up():
        ((run_id, verdict),) = sync()
        assert run_id == waiting
        assert verdict.champion is not None, "it is judged against the champion"
        recorded = record_of(client, run_id)
        assert len(recorded["lstm"][1]["epoch/train_loss"]) == 3
        files = {name: each[2] for name, each in recorded.items()}
        assert files == {name: each[2] for name, each in expected.items()}
        assert len(client.search_model_versions("name = 'recsys'")) == 2
        assert sync() == []


@pytest.mark.chaos
def test_a_training_ends_without_prefect(home):
    """The server dies while the session model is trained; its results are in MLflow."""
    (home / "run.toml").write_text(TOML.replace("epochs = 3", "epochs = 4"))
    before = set(Path("data/cache/checkpoints").glob("*"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": ""}
    with prefect_at(find_free_port(), home) as (prefect, address):
        watcher = kill_when(lambda: set(Path("data/cache/checkpoints").glob("*")) - before, prefect)
        done = subprocess.run(
            [sys.executable, "-m", "flows.train", "--config", "run.toml"],
            env={**environment, "PREFECT_API_URL": address, "PREFECT_CLIENT_MAX_RETRIES": "2"},
            capture_output=True,
            text=True,
            check=False,
        )
        watcher.join()
    assert done.returncode == 0, done.stderr
    assert "The run is complete; the Prefect server did not record it" in done.stderr
    assert "Traceback" not in done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert load_recommender("models:/recsys@champion").next_items([1]) is not None


def test_a_locked_database_is_named(local_store, monkeypatch):
    monkeypatch.setattr(store, "_LOCK_SECONDS", 0.1)
    with sqlite3.connect("mlflow/mlflow.db") as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(NetworkError, match=r"mlflow\.db is locked by another process"):
            connect()
        with start_run("train", "e", PENDING / "a") as run:
            run.log_params({"a": 1})
        assert run.pending == PENDING / "a"
    other.close()
    assert connect() is not None


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:////proc/none.db"])
def test_every_use_of_a_store_that_is_away_is_told_in_a_line(tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for use in (load_recommender, lambda: start_run("a", "e").__enter__()):
        with pytest.raises(RecsysError) as caught:
            use()
        assert uri.partition("//")[2].strip("/") in str(caught.value)
        assert "\n" not in str(caught.value)
