"""Shared fixtures: small logs, a small sample and a small bundle."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pandas as pd
import pytest
import torch
from filelock import FileLock
from hypothesis import settings

from recsys.config import Runtime
from recsys.cooccurrence import count_cooccurrence
from recsys.data import leave_last_out, read_ratings
from recsys.data.synthetic import SyntheticConfig, synthesise_ratings, write_sample
from recsys.embeddings import EmbeddingConfig, fit_embeddings
from recsys.recommender import Recommender
from recsys.recommender.bundle import make_bundle
from recsys.sessions import SessionConfig, SessionModel, SessionNetwork
from recsys.vocabulary import Vocabulary

ROOT = Path(__file__).parents[1]

SLOW = (
    "baselines/test_movielens_1m.py",
    "cli/",
    "cooccurrence/test_distributed.py",
    "data/test_corruptions.py",
    "data/test_download_command.py",
    "data/test_parquet.py",
    "data/test_synthetic.py",
    "data/test_text.py",
    "embeddings/test_fit.py",
    "embeddings/test_optimum.py",
    "faults/",
    "flows/",
    "recommender/test_hostile.py",
    "reporting/",
    "serving/test_openapi.py",
    "serving/test_page.py",
    "serving/test_server.py",
    "sessions/test_distributed.py",
    "sessions/test_model.py",
    "sessions/test_options.py",
    "sessions/test_resume.py",
    "test_docs.py",
    "test_installation.py",
    "test_notebook.py",
    "test_pages.py",
    "test_pictures.py",
    "test_project.py",
    "test_readme.py",
    "test_types.py",
    "tracking/",
)
"""Tests that start servers, browsers or processes, or train for long: `make quick` omits them."""

LONGEST = (
    "test_deployments.py",
    "test_train.py",
    "test_refresh.py",
    "test_kills.py",
    "test_gpu.py",
    "test_arguments.py",
)

collect_ignore = ["typing"]  # only type checkers read it

# The same examples in every run, and no time limit, which a busy machine would exceed.
settings.register_profile("gate", deadline=None, derandomize=True, max_examples=50, database=None)
settings.load_profile("gate")


def pytest_addoption(parser):
    parser.addoption(
        "--chaos", action="store_true", help="run the long forms of the tests in tests/faults"
    )


def pytest_collection_modifyitems(config, items):
    no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
    no_chaos = pytest.mark.skipif(not config.getoption("--chaos"), reason="runs with --chaos")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(no_gpu)
        if item.get_closest_marker("chaos"):
            item.add_marker(no_chaos)
        tests = ROOT / "tests"
        if tests in item.path.parents and item.path.relative_to(tests).as_posix().startswith(SLOW):
            item.add_marker("slow")
    items.sort(key=place)


def place(item):
    """The longest first, so that no process has one left when the others have ended."""
    if item.path.name in LONGEST:
        return LONGEST.index(item.path.name)
    return len(LONGEST) + (item.get_closest_marker("slow") is None)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """Stop the servers that tests of several processes have used, when all have ended."""
    if not hasattr(session.config, "workerinput"):
        for file in session.config._tmp_path_factory.getbasetemp().glob("*/server.pid"):
            with suppress(ProcessLookupError):
                os.killpg(int(file.read_text()), signal.SIGKILL)


WATCH = """
import os, select, signal, sys
tests, server = map(int, sys.argv[1:])
select.select([os.pidfd_open(tests)], [], [])
os.killpg(server, signal.SIGKILL)
"""


def stop_at_the_end(server, folder):
    """Stop a server, the leader of a process group, when all tests have ended or were killed."""
    (folder / "server.pid").write_text(str(server.pid))
    if hasattr(os, "pidfd_open"):  # on Linux
        is_worker = "PYTEST_XDIST_WORKER" in os.environ  # which may end before the others
        tests = os.getppid() if is_worker else os.getpid()
        command = [sys.executable, "-S", "-c", WATCH, str(tests), str(server.pid)]
        subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)


@pytest.fixture(scope="session")
def once(tmp_path_factory, worker_id):
    """A function (name, make) that returns a folder which `make(folder)` has filled.

    It is made in the first test process that needs it. What it contains must not be changed. A
    server that `make` starts is stopped at the end of all tests, if `make` calls `stop_at_the_end`.
    """
    root = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        root = root.parent

    def folder_of(name, make):
        folder = root / name
        with FileLock(root / f"{name}.lock"):
            if not (folder / "made").exists():
                folder.mkdir(exist_ok=True)
                make(folder)
                (folder / "made").touch()
        return folder

    return folder_of


@pytest.fixture
def small_log():
    """Three users with 4, 3 and 2 interactions; rows are not in order."""
    return pd.DataFrame(
        [
            (2, 50, 2.0, 130),
            (1, 30, 5.0, 120),
            (1, 10, 4.0, 100),
            (3, 10, 4.5, 300),
            (2, 20, 4.0, 110),
            (1, 40, 3.0, 140),
            (2, 10, 5.0, 120),
            (1, 20, 4.0, 110),
            (3, 30, 1.0, 200),
        ],
        columns=["user_id", "item_id", "rating", "timestamp"],
    )


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """Synthetic ratings of 60 items by 80 users, as read from their folder."""
    config = SyntheticConfig(n_users=80, n_items=60, mean_events=20, seed=1)
    return read_ratings(write_sample(tmp_path_factory.mktemp("data") / "sample", config))


@pytest.fixture(scope="session")
def sample_split(sample):
    return leave_last_out(sample)


@pytest.fixture(scope="session")
def movielens():
    """The folder of MovieLens latest-small, if it has been downloaded."""
    for folder in (ROOT / "data", ROOT.parent / "shared" / "data"):
        if (folder / "ml-latest-small" / "ratings.csv").is_file():
            return folder / "ml-latest-small"
    pytest.skip("MovieLens latest-small has not been downloaded")


@pytest.fixture(scope="session")
def bundle():
    """A small bundle of synthetic items: fitted embeddings, an LSTM with random weights."""
    ratings, movies = synthesise_ratings(SyntheticConfig(n_users=60, n_items=50, mean_events=20))
    log = read_ratings(ratings.merge(movies, on="item_id"))
    catalogue = pd.DataFrame({"item_id": log.items.ids}).merge(movies, on="item_id")
    counts = count_cooccurrence(log, min_rating=3.0)
    embeddings = fit_embeddings(counts, EmbeddingConfig(dim=8), runtime=Runtime(device="cpu"))
    network = SessionNetwork(log.n_items, SessionConfig(embedding_dim=8, hidden_dim=8).resolve(0))
    network.reset_parameters(torch.Generator().manual_seed(0), torch.ones(log.n_items))
    return make_bundle(catalogue, embeddings, SessionModel(network.eval(), log.items), {}, {})


@pytest.fixture(scope="session")
def recommender_of_shown_films(bundle):
    """A recommender of the small bundle that knows the films of the documentation."""
    shown = {"Toy Story (1995)": 1, "Apollo 13 (1995)": 150, "Heat (1995)": 6, "Casino (1995)": 16}
    ids = [*shown.values(), *range(1000, 1000 + len(bundle.catalogue) - len(shown))]
    titles = [*shown, *bundle.catalogue["title"][len(shown) :]]
    catalogue = bundle.catalogue.assign(item_id=ids, title=titles)
    embeddings = replace(bundle.embeddings, items=Vocabulary(catalogue["item_id"].to_numpy()))
    return Recommender(replace(bundle, catalogue=catalogue, embeddings=embeddings))


@pytest.fixture(scope="session")
def empty_database(once):
    """The database of an empty local store, to be copied: creating one takes seconds."""

    def make(folder):
        from recsys.tracking.store import connect  # slow to import

        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            connect(create=True)

    return once("mlflow-store", make) / "mlflow" / "mlflow.db"


@pytest.fixture(scope="session")
def prefect_server(once):
    """The folder of a Prefect server, on which the flow runs of all test processes are.

    `tables.db` is its database before the first run, to be copied as the `prefect.db` of another
    PREFECT_HOME: a server takes half a minute to create one on a busy machine.
    """
    from prefect.context import refresh_global_settings_context  # slow to import
    from prefect.flow_engine import FlowRunEngine

    folder = once("prefect-server", start_prefect_server)
    # For all threads: one without the setting would start a temporary server.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", (folder / "url").read_text())
        refresh_global_settings_context()
    with pytest.MonkeyPatch.context() as patch:
        # A flow run would wait up to a second for the thread that sends heartbeats.
        patch.setattr(FlowRunEngine, "heartbeat_seconds", None)
        yield folder
    refresh_global_settings_context()


def start_prefect_server(folder):
    from flows.dev_servers import prefect_server

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = prefect_server(probe.getsockname()[1])
    own = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    process = subprocess.Popen(
        [sys.executable, "-m", *server.command],
        env={**own, **server.environment, "PREFECT_HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    stop_at_the_end(process, folder)
    url = f"{server.address}/api"
    deadline = time.monotonic() + 300
    while not is_up(f"{url}/health"):
        assert process.poll() is None, "the Prefect server exited"
        assert time.monotonic() < deadline, "the Prefect server did not respond"
        time.sleep(0.2)
    with (
        closing(sqlite3.connect(folder / "prefect.db")) as source,
        closing(sqlite3.connect(folder / "tables.db")) as copy,
    ):
        source.backup(copy)
    (folder / "url").write_text(url)


def is_up(url):
    with suppress(httpx.HTTPError):
        return httpx.get(url, timeout=5).is_success


@pytest.fixture
def start_recsys():
    """Starts the command line in a process of its own, after an optional patch of the code."""

    def start(*arguments, patch=""):
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"{patch}\nfrom recsys.cli.main import main; main()",
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "120"},
        )

    return start
