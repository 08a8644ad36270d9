"""Fixtures shared by the tests of the flows: a working directory, and what a flow run has left."""

import shutil

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from recsys.cooccurrence import CooccurrenceBlocks
from recsys.data.synthetic import SyntheticConfig, write_sample


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_database):
    """A project folder with ratings in `sample` and an empty store: the working directory."""
    folder = tmp_path_factory.mktemp("home")
    write_sample(folder / "sample", SyntheticConfig(n_users=80, n_items=60, mean_events=25))
    (folder / "mlflow").mkdir()
    shutil.copy(empty_database, folder / "mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        # No flow may need the memory for all counts.
        patch.delattr(CooccurrenceBlocks, "load")
        yield folder


@pytest.fixture
def artifacts_of(prefect_server):
    """Asks the server for the artifacts of a flow run."""

    def ask(flow_run_id):
        chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
        with get_client(sync_client=True) as api:
            return api.read_artifacts(artifact_filter=chosen)

    return ask
