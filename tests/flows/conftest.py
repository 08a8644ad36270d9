"""What the tests of the flows share: one Prefect server, and a folder to work in."""

import os
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

from recsys.data.synthetic import SyntheticConfig, write_sample


@pytest.fixture(scope="session")
def prefect_server():
    """Prefect's own temporary server and database; it takes half a minute to start."""
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server):
    """An empty project folder with a small sample in it, as the working directory."""
    folder = tmp_path_factory.mktemp("home")
    write_sample(folder / "sample", SyntheticConfig(n_users=80, n_items=60, mean_events=25))
    before = Path.cwd()
    os.chdir(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield folder
    os.chdir(before)
