import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from flows.dev_servers import mlflow_server
from tests.conftest import stop_at_the_end

ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "mlflow/server.env"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty working directory, without a tracking server in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture
def store(home, empty_database):
    """A working directory with an empty local store."""
    Path("mlflow").mkdir()
    shutil.copy(empty_database, "mlflow")
    return home


@pytest.fixture(scope="session")
def server(once, empty_database):
    """The address of an MLflow server with its own store, which all test processes use."""

    def make(folder):
        shutil.copy(empty_database, folder / "store.db")
        address = f"http://127.0.0.1:{(port := find_free_port())}"
        process = launch(
            [
                *(sys.executable, "-m", *mlflow_server(port, SETTINGS).command, "--workers", "1"),
                *("--backend-store-uri", "sqlite:///store.db", "--artifacts-destination", "files"),
            ],
            f"{address}/health",
            cwd=folder,
            env={"PATH": "", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "DO_NOT_TRACK": "true"},
        )
        stop_at_the_end(process, folder)
        (folder / "url").write_text(address)

    return (once("mlflow-server", make) / "url").read_text()


@pytest.fixture
def free_port():
    return find_free_port()


def find_free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def started():
    """Start servers, wait until they answer, and stop them after the test."""
    with ExitStack() as stack:

        def start(*command, until, **options):
            return stack.enter_context(running(command, until, **options))

        yield start


@contextmanager
def running(command, until, **options):
    """Run a server for the duration of the block, once an address answers."""
    process = launch(command, until, **options)
    try:
        yield process
    finally:
        stop(process)


def launch(command, until, **options):
    """Start a server and wait until an address answers."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        **options,
    )
    try:
        deadline = time.monotonic() + 180
        while True:
            assert process.poll() is None, "the server exited"
            assert time.monotonic() < deadline, f"{until} never answered"
            try:
                urllib.request.urlopen(until, timeout=5).close()
            except OSError:
                time.sleep(0.2)
            else:
                return process
    except BaseException:
        stop(process)
        raise


def stop(process):
    """Stop a server and its workers."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    process.wait()
