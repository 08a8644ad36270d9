"""The deployments, run by a real worker from a real server on loopback."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling

from flows.deploy import AUTOMATIONS, replace_automation
from flows.dev_servers import prefect_server
from recsys.data.synthetic import SyntheticConfig, write_sample
from recsys.recommender.bundle import save_bundle
from recsys.tracking import log_bundle, promote, register, start_run

ROOT = Path(__file__).parents[2]
ENDED = {"Completed", "Failed", "Cancelled", "Crashed"}
LONG = {"embeddings": {"dim": 8}, "session_model": {"hidden_dim": 16, "epochs": 10_000}}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, what, seconds=120):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.3)
    return found


class Stack:
    """A server, a folder with data and a champion, deployments, and workers."""

    def __init__(self, home):
        self.home = home
        self.url = f"http://127.0.0.1:{free_port()}"
        own = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        own.pop("MLFLOW_TRACKING_URI", None)
        self.environment = {
            **own,
            "PATH": f"{Path(sys.executable).parent}:{own['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PREFECT_HOME": str(home / "prefect"),
            "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
        }
        self.begun = []

    def begin(self, *command):
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.home,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.begun.append(process)
        return process

    def begin_worker(self):
        self.worker = self.begin("prefect", "worker", "start", "--pool", "recsys", "--limit", "3")

    def call(self, *command):
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @contextlib.contextmanager
    def api(self):
        with (
            temporary_settings({PREFECT_API_URL: f"{self.url}/api"}),
            get_client(sync_client=True) as client,
        ):
            yield client

    def run(self, deployment, **parameters):
        """Ask for a run now; gives back its id."""
        with self.api() as client:
            found = client.read_deployment_by_name(deployment)
            parameters = {**found.parameters, **parameters}
            return client.create_flow_run_from_deployment(found.id, parameters=parameters).id

    def state_of(self, run_id):
        with self.api() as client:
            return client.read_flow_run(run_id).state

    def ended(self, run_id):
        def state():
            state = self.state_of(run_id)
            return state if state.name in ENDED else None

        return wait_until(state, "the run has ended")

    def artifacts_of(self, run_id):
        with self.api() as client:
            only = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
            return {one.key: one.data for one in client.read_artifacts(artifact_filter=only)}

    def tasks_of(self, run_id):
        with self.api() as client:
            only = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
            return {run.name: run for run in client.read_task_runs(flow_run_filter=only)}

    def checkpoints(self):
        """Of all trainings that have come so far."""
        return set((self.home / "data/cache/checkpoints").glob("*/training.safetensors"))


def described(home):
    """The project's deployments, with small data, and a schedule of seconds for one."""
    whole = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    for one in whole["deployments"]:
        one["entrypoint"] = f"{ROOT}/{one['entrypoint']}"
        one["parameters"] = {"source": "sample"}
        one["schedules"] = []
        if one["name"] == "hourly":
            one["schedules"] = [{"interval": 20, "slug": "seconds"}]
    # A run that died holds its slot for five minutes, and one beside the schedule is cancelled.
    unlimited = [{**one, "name": "unlimited", "schedules": []} for one in whole["deployments"][1:3]]
    for one in unlimited:
        del one["concurrency_limit"]
    whole["deployments"] += unlimited
    path = home / "deployments.yaml"
    path.write_text(yaml.safe_dump(whole))
    return path


@pytest.fixture(scope="module")
def stack(tmp_path_factory, bundle):
    home = tmp_path_factory.mktemp("stack")
    config = SyntheticConfig(n_users=60, n_items=50, mean_events=20)
    write_sample(home / "sample", config)
    stack = Stack(home)
    port = stack.url.rsplit(":", 1)[1]
    try:
        server = prefect_server(int(port))
        stack.environment |= server.environment
        stack.server = stack.begin(*server.command)
        before = Path.cwd()
        os.chdir(home)
        with start_run("made", "recsys") as run:
            log_bundle(run, save_bundle(bundle, home / "bundle"))
            promote(run, "recsys", register(run, "recsys", "the first"))
        os.chdir(before)
        wait_until(lambda: is_up(stack.url), "the server is up")
        stack.call("flows.deploy", "--file", str(described(home)))
        stack.begin_worker()
        yield stack
    finally:
        for process in stack.begun:
            kill_all(process)


def is_up(url):
    import httpx

    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/api/health", timeout=5).is_success


def kill_all(process):
    """A process and everything that it started, without a word."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid)
        for one in [*family.children(recursive=True), family]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()


def test_the_server_listens_on_loopback_only(stack):
    family = [psutil.Process(stack.server.pid)]
    family += family[0].children(recursive=True)
    found = [one for process in family for one in process.net_connections("inet")]
    listening = {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


@pytest.fixture(scope="module")
def silenced(stack):
    """A training whose worker was killed with it, with nobody left to tell."""
    automation = yaml.safe_load(AUTOMATIONS.read_text())["automations"][0]
    automation["trigger"]["within"] = 35  # Prefect's shortest heartbeat is 30 s
    with stack.api():
        replace_automation(automation)
    run_id = stack.run("train/unlimited", **LONG)
    wait_until(stack.checkpoints, "the LSTM has learned for an epoch")
    kill_all(stack.worker)
    stack.begin_worker()
    return run_id


def test_a_scheduled_run_completes(stack):
    # Before any worker is killed: a run that dies with its worker keeps its slot for minutes.
    def completed():
        with stack.api() as client:
            found = client.read_flow_runs()
        runs = [run for run in found if run.auto_scheduled and run.state_name == "Completed"]
        return runs and runs[0]

    run = wait_until(completed, "a scheduled run has completed")
    (folder,) = (stack.home / "data/recommendations").iterdir()
    table = pd.read_parquet(folder)
    assert table["user_id"].nunique() == 60
    with stack.api() as client:
        deployment = client.read_deployment(run.deployment_id)
        client.pause_deployment(deployment.id)
    assert deployment.name == "hourly"


def test_a_failed_run_is_retried_and_reported(silenced, stack):
    (stack.home / "file").write_text("not a folder")
    run_id = stack.run("recommend/unlimited", output_dir="file/below")
    state = stack.ended(run_id)
    assert state.name == "Failed"
    task = stack.tasks_of(run_id)["write recommendations"]
    assert (task.state_name, task.run_count) == ("Failed", 4), "three more tries"
    report = stack.artifacts_of(run_id)["failure"]
    assert "recommend: Failed" in report
    assert "Not a directory" in report
    assert "file/below" in report
    assert "Start it again" in report


@pytest.mark.parametrize(
    ("deployment", "parameters", "fault"),
    [
        ("recommend/hourly", {"k": 0}, "'k'"),
        ("train/weekly", {"session_model": {"epoch": 3}}, "epoch"),
        ("train/weekly", {"embeddings": {"optimizer": "magic"}}, "optimizer"),
        ("refresh/daily", {"warm_start": {"learning_rate": -1}}, "learning_rate"),
    ],
)
def test_invalid_parameters_are_refused_before_anything_runs(stack, deployment, parameters, fault):
    with pytest.raises(PrefectHTTPStatusError) as refused:
        stack.run(deployment, **parameters)
    assert refused.value.response.status_code in (409, 422)
    assert fault in refused.value.response.text


def test_a_cancelled_run_leaves_no_temporary_files(silenced, stack):
    before = stack.checkpoints()
    run_id = stack.run("train/unlimited", **LONG, runtime={"seed": 1})
    wait_until(lambda: stack.checkpoints() - before, "the LSTM learns")
    with stack.api() as client:
        client.set_flow_run_state(run_id, Cancelling())
    assert stack.ended(run_id).name == "Cancelled"
    assert "train: Cancel" in stack.artifacts_of(run_id)["failure"]
    left = [path for path in (stack.home / "data").rglob(".*") if path.is_dir()]
    assert left == []
    # And the next one has the machine for itself at once: nobody holds the lock.
    lock = stack.home / "data/cache/training.lock"
    done = subprocess.run(["flock", "--nonblock", lock, "true"], check=False)
    assert done.returncode == 0


def test_a_run_killed_with_its_worker_is_marked_as_crashed(silenced, stack):
    state = stack.ended(silenced)
    assert state.name == "Crashed"
    assert "no heartbeat" in state.message
