"""The deployments, run by a real worker from a real server on loopback."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
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

from flows import dev_servers
from flows.deploy import AUTOMATIONS, configure, replace_automation
from flows.settings import Settings
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


def wait_until(condition, what, seconds=300):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"timed out waiting until {what}"
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
        self.processes = []

    def start(self, *command):
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.home,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def start_worker(self):
        self.worker = self.start("prefect", "worker", "start", "--pool", "recsys", "--limit", "3")

    def call(self, *command, folder="."):
        """Run a command in a folder of the home; returns its output."""
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.home / folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextlib.contextmanager
    def api(self):
        with (
            temporary_settings({PREFECT_API_URL: f"{self.url}/api"}),
            get_client(sync_client=True) as client,
        ):
            yield client

    def run(self, deployment, **parameters):
        """Request a run and return its id."""
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
            own = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
            return {each.key: each.data for each in client.read_artifacts(artifact_filter=own)}

    def tasks_of(self, run_id):
        with self.api() as client:
            own = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
            return {run.name: run for run in client.read_task_runs(flow_run_filter=own)}

    def checkpoints(self):
        """The checkpoints of all trainings so far."""
        return set((self.home / "data/cache/checkpoints").glob("*/training.safetensors"))


def small_deployments(home):
    """The project's deployments, with small data and one schedule that starts soon."""
    config = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    soon = (datetime.now(UTC) + timedelta(seconds=15)).isoformat()
    for deployment in config["deployments"]:
        deployment["entrypoint"] = f"{ROOT}/{deployment['entrypoint']}"
        deployment["parameters"] = {"source": "sample"}
        deployment["schedules"] = []
        if deployment["name"] == "hourly":
            deployment["schedules"] = [{"interval": 60, "anchor_date": soon, "slug": "soon"}]
    # A killed run occupies its slot for five minutes, and a concurrent run would be cancelled.
    unlimited = [
        {**deployment, "name": "unlimited", "schedules": []}
        for deployment in config["deployments"][1:3]
    ]
    for deployment in unlimited:
        del deployment["concurrency_limit"]
    config["deployments"] += unlimited
    path = home / "deployments.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def stack(tmp_path_factory, bundle, empty_database, prefect_server):
    """Has a server of its own, whose automations would change the runs of other tests."""
    home = tmp_path_factory.mktemp("stack")
    config = SyntheticConfig(n_users=60, n_items=50, mean_events=20)
    write_sample(home / "sample", config)
    (home / "mlflow").mkdir()
    shutil.copy(empty_database, home / "mlflow")
    (home / "prefect").mkdir()
    shutil.copy(prefect_server / "tables.db", home / "prefect/prefect.db")
    stack = Stack(home)
    port = stack.url.rsplit(":", 1)[1]
    try:
        server = dev_servers.prefect_server(int(port))
        stack.environment |= server.environment
        stack.server = stack.start(*server.command)
        before = Path.cwd()
        os.chdir(home)
        with start_run("first", "recsys") as run:
            log_bundle(run, save_bundle(bundle, home / "bundle"))
            promote(run, "recsys", register(run, "recsys", "the first"))
        os.chdir(before)
        wait_until(lambda: is_up(stack.url), "the server is up")
        stack.deployed = stack.call("flows.deploy", "--file", str(small_deployments(home)))
        stack.start_worker()
        yield stack
    finally:
        for process in stack.processes:
            kill_all(process)


def is_up(url):
    import httpx

    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/api/health", timeout=5).is_success


def kill_all(process):
    """Kill a process and all its descendants."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        for each in [*parent.children(recursive=True), parent]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    process.wait()


def test_the_server_listens_on_loopback_only(stack):
    processes = [psutil.Process(stack.server.pid)]
    processes += processes[0].children(recursive=True)
    found = [each for process in processes for each in process.net_connections("inet")]
    listening = {each.laddr.ip for each in found if each.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_deploying_prints_when_each_deployment_runs(stack):
    *runs, address, example = stack.deployed.splitlines()
    assert [re.split(r"  +", line) for line in runs] == [
        ["refresh/daily", "on request"],
        ["train/weekly", "on request"],
        ["recommend/hourly", "every 60 s, on recsys.refresh.finished"],
        ["sweep/manual", "on request"],
        ["train/unlimited", "on request"],
        ["recommend/unlimited", "on recsys.refresh.finished"],
    ]
    port = stack.url.rpartition(":")[2]
    assert address == (
        f"Deployed to {stack.url}/api. `make worker PREFECT_PORT={port}` runs what is due."
    )
    assert "prefect deployment run refresh/daily --watch" in example


def test_a_deployment_of_another_model_has_another_name():
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    for deployment in deployments["deployments"]:
        deployment["entrypoint"] = f"{ROOT}/{deployment['entrypoint']}"
    configured = configure(deployments, Settings(model_name="shop"))["deployments"]
    assert [deployment["name"] for deployment in configured] == [
        "shop-daily", "shop-weekly", "shop-hourly", "shop-manual",
    ]  # fmt: skip
    assert {deployment["parameters"]["model_name"] for deployment in configured} == {"shop"}


def test_deploying_from_another_folder_warns(stack):
    (stack.home / "elsewhere").mkdir()
    deployments = yaml.safe_load((stack.home / "deployments.yaml").read_text())
    assert "warning" not in stack.deployed
    deployments["deployments"] = deployments["deployments"][3:4]  # which no other test runs
    path = stack.home / "sweep.yaml"
    path.write_text(yaml.safe_dump(deployments))
    moved = stack.call("flows.deploy", "--file", str(path), folder="elsewhere")
    assert f"warning: sweep/manual ran in {stack.home}, and now runs here" in moved


@pytest.fixture(scope="module")
def killed(stack, request):
    """The ids of a training and of a run that had not begun, killed together with their worker."""
    within = (
        35,
        150 if request.config.getoption("--chaos") else 35,
    )  # a heartbeat is sent every 30 s
    with stack.api():
        automations = yaml.safe_load(AUTOMATIONS.read_text())["automations"]
        for automation, seconds in zip(automations, within, strict=True):
            automation["trigger"]["within"] = seconds
            replace_automation(automation)
    running = stack.run("train/unlimited", **LONG)
    wait_until(stack.checkpoints, "the LSTM has been trained for an epoch")
    pending = stack.run("recommend/hourly")
    wait_until(lambda: stack.state_of(pending).is_pending(), "the worker has taken the run")
    kill_all(stack.worker)
    assert stack.state_of(pending).is_pending()
    stack.start_worker()
    return running, pending


def test_a_scheduled_run_completes(stack):
    # Before any worker is killed: a run killed with its worker occupies its slot for minutes.
    def completed():
        with stack.api() as client:
            found = client.read_flow_runs()
        runs = [run for run in found if run.auto_scheduled and run.state_name == "Completed"]
        return runs and runs[0]

    run = wait_until(completed, "a scheduled run has completed")
    (folder,) = (stack.home / "data/recommendations").glob("day=*")
    table = pd.read_parquet(folder)
    assert table["user_id"].nunique() == 60
    with stack.api() as client:
        deployment = client.read_deployment(run.deployment_id)
        client.pause_deployment(deployment.id)
    assert deployment.name == "hourly"


def test_a_failed_run_is_reported(killed, stack):
    (stack.home / "file").write_text("not a folder")
    run_id = stack.run("recommend/unlimited", output_dir="file/below")
    state = stack.ended(run_id)
    assert state.name == "Failed"
    assert "write recommendations" not in stack.tasks_of(run_id)
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


def test_a_cancelled_run_leaves_no_temporary_files(killed, stack):
    before = stack.checkpoints()
    run_id = stack.run("train/unlimited", **LONG, runtime={"seed": 1})
    wait_until(lambda: stack.checkpoints() - before, "the LSTM is being trained")
    with stack.api() as client:
        client.set_flow_run_state(run_id, Cancelling())
    assert stack.ended(run_id).name == "Cancelled"
    assert "train: Cancel" in stack.artifacts_of(run_id)["failure"]
    left = [path for path in (stack.home / "data").rglob(".*") if path.is_dir()]
    assert left == []
    # The next training can start at once: the lock is released.
    lock = stack.home / "data/cache/training.lock"
    done = subprocess.run(["flock", "--nonblock", lock, "true"], check=False)
    assert done.returncode == 0


def test_a_run_killed_with_its_worker_is_marked_as_crashed(killed, stack):
    state = stack.ended(killed[0])
    assert state.name == "Crashed"
    assert "no heartbeat" in state.message


def test_a_run_killed_before_it_began_frees_its_slot_and_is_marked_as_crashed(
    killed, stack, request
):
    def is_free():
        with stack.api() as client:
            deployment = client.read_deployment_by_name("recommend/hourly")
        return deployment.global_concurrency_limit.active_slots == 0

    if request.config.getoption("--chaos"):  # the grace period frees the slot, after a minute
        wait_until(is_free, "the slot is free")
        assert stack.state_of(killed[1]).is_pending()
    state = stack.ended(killed[1])
    assert state.name == "Crashed"
    assert "never began" in state.message
    assert is_free()
