"""MLflow stops answering while a sweep runs or files are uploaded: nothing is lost."""

import shutil
import socket
import sqlite3
import struct
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from mlflow import MlflowClient

from flows import sweep as sweeps
from flows.settings import SearchSpace
from flows.sweep import sweep
from flows.sync import sync
from flows.train import train
from recsys.console import print_table
from recsys.cooccurrence import CooccurrenceConfig
from recsys.data.synthetic import SyntheticConfig, write_sample
from recsys.embeddings import EmbeddingConfig
from recsys.errors import NetworkError
from recsys.loading import load_recommender
from recsys.recommender.bundle import save_bundle
from recsys.sessions import SessionConfig
from recsys.tracking import PENDING, join_run, log_bundle, replay, start_run, store
from recsys.tracking.store import connect
from tests.faults.test_servers_away import Mlflow, kill_when
from tests.tracking import conftest as tracking

pytestmark = pytest.mark.slow

shared_server = tracking.server  # a fixture

GRID = SearchSpace(embeddings={"dim": [4, 8]})
WIDER = SearchSpace(embeddings={"dim": [4, 8, 12]})
SWEEP = {"source": "sample", "cooccurrence": CooccurrenceConfig(min_rating=3.5)}


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_database):
    """A project folder with a small sample and a local store, as the working directory."""
    folder = tmp_path_factory.mktemp("home")
    write_sample(folder / "sample", SyntheticConfig(n_users=60, n_items=40, mean_events=20))
    (folder / "mlflow").mkdir()
    shutil.copy(empty_database, folder / "mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def trials_of(client, run_id):
    """The status and the metrics of the child runs of a sweep, by name."""
    run = client.get_run(run_id)
    nested = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    assert run.info.status == "FINISHED"
    return {
        child.info.run_name: (child.info.status, child.data.metrics)
        for child in nested
        if child.info.run_name != "data"
    }


@pytest.fixture
def tables(monkeypatch):
    """The tables that sweeps print."""
    printed = []
    monkeypatch.setattr(
        sweeps, "print_table", lambda *args: (printed.append(args[0]), print_table(*args))
    )
    return printed


@pytest.fixture
def away(monkeypatch):
    """MLflow does not answer."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{tracking.find_free_port()}")


def test_a_sweep_without_mlflow_waits_for_sync(home, away, tables, monkeypatch):
    assert sweep(**SWEEP, search=GRID).startswith("pending-")
    assert set(tables[0]["status"]) == {"completed"}
    again = sweep(**SWEEP, search=WIDER)
    assert again.startswith("pending-")
    status = dict(zip(tables[1]["trial"], tables[1]["status"], strict=True))
    assert status == {
        "dim=4 embeddings": "cached",
        "dim=8 embeddings": "cached",
        "dim=12 embeddings": "completed",
    }
    assert len(list(PENDING.iterdir())) == 2

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    sync()
    assert not list(PENDING.iterdir())
    client = connect()
    parents = [
        run
        for run in client.search_runs([e.experiment_id for e in client.search_experiments()])
        if "mlflow.parentRunId" not in run.data.tags
    ]
    sent = [trials_of(client, run.info.run_id) for run in parents]
    assert sorted(map(sorted, sent)) == [
        ["dim=12 embeddings"],
        ["dim=4 embeddings", "dim=8 embeddings"],
    ]
    shown = tables[1].set_index("trial")["validation_ndcg_at_10"]
    for trials in sent:
        for name, (status, metrics) in trials.items():
            assert status == "FINISHED"
            assert metrics["validation_ndcg_at_10"] == pytest.approx(shown[name], abs=1e-6)


def test_child_runs_of_two_processes_wait_in_one_folder(local_store, monkeypatch):
    """The store is away for one of them, then also for the other; it has the parent run."""
    monkeypatch.setattr(store, "_LOCK_SECONDS", 0.1)
    with start_run("sweep", "e", PENDING / "a") as run:
        assert run.pending is None
        with sqlite3.connect("mlflow/mlflow.db") as other:
            other.execute("BEGIN EXCLUSIVE")
            with join_run(run.reference).child("first") as child:
                child.log_metrics({"x": 1.0})
        other.close()
        with join_run(run.reference).child("second") as child:
            child.log_metrics({"x": 2.0})
        assert run.pending == PENDING / "a"
    replay(PENDING / "a")
    trials = trials_of(connect(), run.run_id)
    assert trials == {"first": ("FINISHED", {"x": 1.0}), "second": ("FINISHED", {"x": 2.0})}


@pytest.mark.chaos
def test_a_sweep_whose_server_dies_is_whole_after_a_sync(
    home, tables, tmp_path, monkeypatch, empty_database
):
    """The server dies after the first trial, or during the second."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server = Mlflow(tmp_path)
    (tmp_path / "store.db").write_bytes(empty_database.read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    search = SearchSpace(embeddings={"dim": [5, 6, 7]})
    before = set(Path("data/cache/reports").glob("*"))
    with server.up() as process:
        watcher = kill_when(lambda: set(Path("data/cache/reports").glob("*")) - before, process)
        run_id = sweep(**SWEEP, search=search)
        watcher.join()
    assert not run_id.startswith("pending-"), "the run was begun on the server"
    assert list(tables[0]["status"]) == ["completed"] * 3
    with server.up():
        sync()
        trials = trials_of(MlflowClient(server.address), run_id)
    assert {status for status, _ in trials.values()} == {"FINISHED"}
    assert set(trials) == set(search.trials())
    assert all("validation_ndcg_at_10" in metrics for _, metrics in trials.values())


class Cutter:
    """A proxy that resets the connection within an upload, and then refuses all others."""

    def __init__(self, address):
        self.target = urlsplit(address)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.cuts, self.is_away = b"", False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):  # closed
            while True:
                client, _ = self.socket.accept()
                server = socket.create_connection((self.target.hostname, self.target.port))
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source, target):
        with suppress(OSError), source, target:
            while data := source.recv(65536):
                if self.cuts and data.startswith(b"PUT") and self.cuts in data.partition(b"\r")[0]:
                    self.is_away = True
                    target.sendall(data[: len(data) // 2])
                if self.is_away:
                    for end in (source, target):  # a reset instead of an orderly end
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                target.sendall(data)

    def restore(self):
        self.cuts, self.is_away = b"", False


@pytest.fixture
def cutter(shared_server, monkeypatch):
    proxy = Cutter(shared_server)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    yield proxy
    proxy.socket.close()


def test_an_upload_that_is_cut_is_sent_later(tmp_path, monkeypatch, cutter, bundle):
    monkeypatch.chdir(tmp_path)
    cutter.cuts = b"page.html"
    with start_run("train", "cut", PENDING / "a") as run:
        run.log_json({"a": 1}, "before")
        run.log_html("<html>" * 10_000, "page")
        run.log_params({"after": 1})
    assert run.pending == PENDING / "a"
    cutter.restore()
    replay(run.pending)
    client = connect()
    assert client.get_run(run.run_id).data.params == {"after": "1"}
    assert {file.path for file in client.list_artifacts(run.run_id)} == {"before.json", "page.html"}
    page = Path(client.download_artifacts(run.run_id, "page.html")).read_text()
    assert page == "<html>" * 10_000

    folder = save_bundle(bundle, tmp_path / "bundle")
    with start_run("train", "cut") as other:
        cutter.cuts = b"items.parquet"
        with pytest.raises(NetworkError, match="does not answer"):
            log_bundle(other, folder)
        cutter.restore()
        model_id = log_bundle(other, folder)
    found = client.search_logged_models([other.experiment_id])
    assert [(model.model_id, str(model.status)) for model in found] == [(model_id, "READY")]
    assert load_recommender(f"runs:/{other.run_id}").next_items([]) is not None


class Gate(BaseHTTPRequestHandler):
    """A proxy that answers some requests by itself: with a status that refuses them."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        body, refused = self.read_body(), self.server.refused
        status, content, kind = self.server.status, b"", "text/plain"
        if not any(name in f"{self.command} {self.path}" for name in refused):
            kept = {*self.headers} - {"Host", "Transfer-Encoding"}
            headers = {name: self.headers[name] for name in kept}
            request = Request(self.server.target + self.path, body or None, headers)
            request.method = self.command
            try:
                with urlopen(request) as found:
                    status, content, kind = (
                        found.status,
                        found.read(),
                        found.headers["Content-Type"],
                    )
            except HTTPError as error:
                status, content, kind = error.code, error.read(), error.headers["Content-Type"]
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", kind)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def read_body(self):
        if self.headers["Transfer-Encoding"] != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"] or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    do_GET = do_HEAD = do_PATCH = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture
def gate(shared_server, monkeypatch):
    """Add parts of `METHOD path` to `refused`; they are answered with `status`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Gate) as server:
        server.target, server.refused, server.status = shared_server, [], 403
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        yield server
        server.shutdown()


@pytest.mark.parametrize(("request_", "status"), [
    ("PUT", 413), ("PUT", 403), ("log-batch", 401), ("runs/create", 403), ("", 401),
], ids=str)  # fmt: skip
def test_a_run_that_is_refused_half_way_is_sent_later(
    tmp_path, monkeypatch, gate, request_, status
):
    """A token expires, a proxy limits the size of uploads, or rights are missing."""
    monkeypatch.chdir(tmp_path)
    gate.status = status
    with start_run("train", "refused", PENDING / "a") as run:
        run.log_params({"before": 1})
        gate.refused += [request_]
        with run.child("lstm") as child:
            child.log_metrics({"x": 1.0})
        run.log_json({"a": 1}, "a")
    assert run.pending == PENDING / "a"
    assert "refuses a request: " in str(run.recorder.error)
    assert str(status) in str(run.recorder.error)
    with pytest.raises(NetworkError, match="refuses a request"):
        replay(run.pending)
    gate.refused.clear()
    replay(run.pending)
    found = connect().get_run(run.run_id)
    assert (found.info.status, found.data.params) == ("FINISHED", {"before": "1"})
    assert trials_of(connect(), run.run_id) == {"lstm": ("FINISHED", {"x": 1.0})}
    assert [file.path for file in connect().list_artifacts(run.run_id)] == ["a.json"]


@pytest.mark.chaos
@pytest.mark.parametrize("refused", ["artifacts/bundle", "registered-models", "model-versions"])
def test_a_model_that_is_refused_is_registered_by_sync(home, gate, refused):
    gate.refused += [refused]
    name = f"refused-{refused.replace('/', '-')}"
    run_id = train(
        "sample",
        embeddings=EmbeddingConfig(dim=8, epochs=2),
        session_model=SessionConfig(epochs=1, hidden_dim=16, embedding_dim=8),
        model_name=name,
    )
    gate.refused.clear()
    ((sent, verdict),) = sync()
    assert (sent, verdict.promoted) == (run_id, True)
    client = connect()
    assert [each.run_id for each in client.search_model_versions(f"name = '{name}'")] == [run_id]
    assert load_recommender(f"models:/{name}@champion").next_items([1]) is not None


@pytest.mark.chaos
def test_a_training_whose_model_is_cut_is_completed_by_sync(home, cutter):
    cutter.cuts = b"items.parquet"
    run_id = train(
        "sample",
        embeddings=EmbeddingConfig(dim=8, epochs=2),
        session_model=SessionConfig(epochs=1, hidden_dim=16, embedding_dim=8),
        model_name="cut",
    )
    assert not run_id.startswith("pending-"), "the run was begun on the server"
    (folder,) = PENDING.iterdir()
    answer = load_recommender(folder / "training/bundle").next_items([1])
    with pytest.raises(NetworkError):
        sync()
    cutter.restore()
    ((sent, verdict),) = sync()
    assert (sent, verdict.promoted) == (run_id, True)
    assert load_recommender("models:/cut@champion").next_items([1]).equals(answer)
    client = connect()
    experiment = client.get_run(run_id).info.experiment_id
    models = client.search_logged_models([experiment], f"source_run_id = '{run_id}'")
    assert [str(model.status) for model in models] == ["READY"]
