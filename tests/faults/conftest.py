"""Tests of the promises in docs/reliability.md: short in every run, long on request."""

import json
import multiprocessing
import shutil

import pandas as pd
import pytest

from recsys.data.synthetic import SyntheticConfig, write_sample

SETTINGS = """
[cooccurrence]
min_rating = 3.0
[embeddings]
dim = 4
epochs = 3
[session_model]
embedding_dim = 4
hidden_dim = 8
epochs = 2
[warm_start]
epochs = 3
learning_rate = 0.02
[promotion]
alpha = 0.99
segment_margin = 1.0
[runtime]
threads = 2
precision = "32-true"
"""

RUN = """
import os, signal, tempfile
os.setsid()
os.chdir(home)
log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(log, 1), os.dup2(log, 2)
os.environ["TMPDIR"], tempfile.tempdir = home + "/tmp", None
os.environ.pop("MLFLOW_TRACKING_URI", None)
from importlib import import_module
from prefect.settings import PREFECT_API_URL, temporary_settings
from flows.cli import main
if instant:
    module, name, calls = instant
    module = import_module(module)
    function = getattr(module, name)
    def killing(*args, **kwargs):
        global calls
        calls -= 1
        if not calls:
            os.killpg(0, signal.SIGKILL)
        return function(*args, **kwargs)
    setattr(module, name, killing)
with temporary_settings({PREFECT_API_URL: url}):
    main([command, "--config", "settings.toml", "--source", source, *options])
"""

STATE = """
import json, os
os.chdir(home)
os.environ.pop("MLFLOW_TRACKING_URI", None)
from pathlib import Path
from recsys.loading import load_recommender
from recsys.storage import read_json, verify_manifest
from recsys.tracking.store import connect
client = connect()
versions = client.search_model_versions("name = 'recsys'")
files = {}
for version in versions:
    bundle = Path(version.source.removeprefix("file://")) / "artifacts/bundle"
    manifest = verify_manifest(bundle)
    files[int(version.version)] = {name: f["sha256"] for name, f in manifest["files"].items()}
model = client.search_registered_models("name = 'recsys'")
champion = model[0].aliases.get("champion") if model else None
experiments = [e.experiment_id for e in client.search_experiments()]
state = {
    "champion": champion and int(champion),
    "answer": champion and load_recommender().next_items([1])["item_id"].tolist(),
    "files": files,
    "running": len(client.search_runs(experiments, "attributes.status = 'RUNNING'")),
    "litter": [str(p) for top in ("data", "mlflow", "tmp") for p in Path(top).rglob("*")
               if p.name.startswith((".", "tmp")) or p.suffix == ".tmp"],
}
Path("state.json").write_text(json.dumps(state))
"""


@pytest.fixture(scope="session")
def chaos(request):
    """Whether the long forms run: `pytest --chaos`."""
    return request.config.getoption("--chaos")


@pytest.fixture(scope="session")
def trials(chaos):
    """A function (short, long) that returns the number of repetitions of this run."""
    return lambda short, long: long if chaos else short


def pytest_terminal_summary(terminalreporter):
    """Print the figures that tests recorded with `record_property`."""
    for report in terminalreporter.getreports("passed"):
        for name, value in getattr(report, "user_properties", ()):
            terminalreporter.write_line(f"{name}: {value}")


class Project:
    """A project folder, in which flows run in processes of their own."""

    def __init__(self, folder, processes, database):
        self.folder, self.processes = folder, processes
        folder.mkdir()
        (folder / "tmp").mkdir()
        (folder / "mlflow").mkdir()
        shutil.copy(database, folder / "mlflow")
        (folder / "settings.toml").write_text(SETTINGS)
        write_sample(folder / "first", SyntheticConfig(n_users=60, n_items=40, mean_events=15))
        shutil.copytree(folder / "first", folder / "second")
        ratings = pd.read_csv(folder / "first/ratings.csv")
        later = ratings.groupby("userId").tail(1).assign(timestamp=lambda x: x.timestamp + 9)
        later["movieId"] = later["movieId"] % 40 + 1
        both = pd.concat([ratings, later]).drop_duplicates(["userId", "movieId"])
        both.to_csv(folder / "second/ratings.csv", index=False)

    def start(self, command, instant=None, options=()):
        """Start `train`, or `refresh` with more ratings; `instant` is where it kills itself."""
        from prefect.settings import PREFECT_API_URL  # slow to import

        source = {"train": "first", "refresh": "second"}[command]
        values = {"command": command, "source": source, "instant": instant, "options": options}
        values |= {"home": str(self.folder), "url": PREFECT_API_URL.value()}
        process = self.processes.Process(target=exec, args=(RUN, values))
        process.start()
        return process

    def run(self, command, instant=None, options=()):
        process = self.start(command, instant, options)
        process.join()
        return process.exitcode

    def state(self):
        """What is registered, whether it is whole, what the champion answers, and what is left."""
        process = self.processes.Process(target=exec, args=(STATE, {"home": str(self.folder)}))
        process.start()
        process.join()
        assert process.exitcode == 0
        return json.loads((self.folder / "state.json").read_text())

    def log(self):
        return (self.folder / "log").read_text()


@pytest.fixture
def local_store(tmp_path, monkeypatch, empty_database):
    """An empty local store in the working directory, a temporary folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow").mkdir()
    shutil.copy(empty_database, tmp_path / "mlflow")


@pytest.fixture(scope="session")
def new_project(prefect_server, empty_database, tmp_path_factory):
    """Creates project folders.

    Processes are forked from one that has imported the flows, which takes longer than a run.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["flows.train", "flows.refresh", "recsys.loading"])
    folder = tmp_path_factory.mktemp
    return lambda: Project(folder("project") / "home", processes, empty_database)
