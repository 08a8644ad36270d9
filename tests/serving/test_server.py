"""The server in one or several processes."""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import httpx
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from recsys.recommender.bundle import save_bundle
from recsys.serving import server
from recsys.serving.config import ServingConfig
from tests.serving.conftest import wait_until

KEY = "a key of enough letters"


@pytest.fixture(scope="module")
def folder(bundle, tmp_path_factory):
    return save_bundle(bundle, tmp_path_factory.mktemp("serve") / "bundle")


@contextmanager
def serving(folder, *options, key=""):
    """A running server: its URL, its process and the lines of its log so far."""
    # Signals that are ignored stay so in a new process, such as SIGHUP below `nohup`.
    command = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    command += "from recsys.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "serve", str(folder), "--port", "0", *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"} | ({"RECSYS_API_KEY": key} if key else {}),
    )
    lines = []
    try:
        for line in process.stderr:
            lines.append(json.loads(line))
            if lines[-1]["event"] == "serving":
                break
        yield lines[-1]["url"], process, lines
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def local(url):
    return url.replace("0.0.0.0", "127.0.0.1")


def test_workers_share_port_sessions_and_metrics_and_stop_together(bundle, folder):
    ids = bundle.catalogue["item_id"].tolist()
    with serving(folder, "--workers", "2", "--host", "0.0.0.0") as (url, process, lines):
        assert any("without an API key" in line["event"] for line in lines)
        counts = []
        created = httpx.post(f"{local(url)}/v1/sessions", timeout=60)
        for item in ids[:8]:  # one connection each, so that both workers get some
            path = f"{local(url)}{created.headers['location']}/events"
            counts.append(httpx.post(path, json={"item": item}, timeout=60).json()["n_events"])
        assert counts == list(range(1, 9))
        output = httpx.get(f"{local(url)}/metrics", timeout=60).text
        assert 'route="/v1/sessions/{session_id}/events",status="200"} 8.0' in output
        with httpx.Client() as idle:  # a connection that stays open
            idle.get(f"{local(url)}/healthz")
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: is_refused(url))
        log = [json.loads(line) for line in process.stderr]
        assert process.wait(60) == 0
        assert sum(line["event"].startswith("Finished server process") for line in log) == 2
        paths = [line["route"] for line in log if line["event"] == "request"]
        assert len([path for path in paths if path != "/healthz"]) == 10


def test_no_warning_with_an_api_key(folder):
    with serving(folder, "--host", "0.0.0.0", key=KEY) as (url, process, lines):
        assert not any(line["level"] == "warning" for line in lines)
        path = f"{local(url)}/v1/items"
        assert httpx.get(path, timeout=60).status_code == 401
        headers = {"Authorization": f"Bearer {KEY}"}
        assert httpx.get(path, headers=headers, timeout=60).status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert KEY not in process.stderr.read()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rate", "0"], "rate: Input should be greater than 0"),
        (["--api-key", "short-key"], "api_key: "),
        (["--log-level", "loud"], "log_level: Input should be"),
    ],
)
def test_invalid_settings_are_reported_in_one_line(options, message, capsys, monkeypatch):
    from recsys.cli.main import main

    monkeypatch.setattr(sys, "argv", ["recsys", "serve", "nowhere", *options])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    output = capsys.readouterr().err
    assert message in output
    assert output.count("\n") == 1
    assert "short-key" not in output


@pytest.mark.parametrize(("value", "threads"), [(None, 1), ("2", 2)])
def test_blas_is_limited_to_one_thread_by_default(rec, value, threads, monkeypatch):
    def run(*_):
        seen.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")

    seen = []
    monkeypatch.setattr(server, "_run", run)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if value:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    with threadpool_limits(2, user_api="blas"):
        server.serve(lambda: rec, ServingConfig(port=0), source="a test")
    assert seen
    assert set(seen) == {threads}


def is_refused(url):
    try:
        return httpx.get(f"{local(url)}/healthz", timeout=30).status_code != 200
    except httpx.TimeoutException:
        raise AssertionError("a connection hangs") from None
    except httpx.TransportError:
        return True


def test_dead_workers_leave_no_gauges_and_workers_end_when_their_parent_is_killed(folder):
    with serving(folder, "--workers", "2") as (url, process, _):
        wait_until(lambda: not is_refused(url))
        worker = next(
            line["process"]
            for line in map(json.loads, process.stderr)
            if line["event"].startswith("Started server process")
        )
        os.kill(worker, signal.SIGKILL)
        log = map(json.loads, process.stderr)
        assert any(line["event"].startswith(f"worker {worker} exited") for line in log)
        wait_until(lambda: not is_refused(url))
        with httpx.Client(base_url=local(url)) as client:
            client.get("/readyz")
            assert "recsys_requests_in_flight 1.0" in client.get("/metrics").text
        process.kill()
        wait_until(lambda: is_refused(url))


_LOADED = re.compile("^recsys_model_loaded_timestamp_seconds (.+)$", re.MULTILINE)


def test_idle_workers_change_to_a_new_model(bundle, tmp_path):
    """Also the first answer of each is that of the new one."""
    folder = save_bundle(bundle, tmp_path / "bundle")
    with serving(folder, "--workers", "2", "--poll-interval", "0.2") as (url, process, _):
        log = (json.loads(line)["event"] for line in process.stderr)
        for _ in range(2):
            assert any(event.startswith("Application startup complete") for event in log)
        before = httpx.get(f"{local(url)}/metrics", timeout=60).text
        replaced = time.time()
        renamed = bundle.catalogue.assign(title=bundle.catalogue["title"] + " again")
        save_bundle(replace(bundle, catalogue=renamed), folder)
        for _ in range(3):  # the parent has the model, too
            assert any("now using version" in event for event in log)

        def loaded_at():
            text = httpx.get(f"{local(url)}/metrics", timeout=60).text
            return float(re.search(_LOADED, text)[1])

        assert float(re.search(_LOADED, before)[1]) > replaced - 600
        wait_until(lambda: loaded_at() > replaced)  # the earliest of both
        for _ in range(12):
            answer = httpx.post(f"{local(url)}/v1/next", json={"k": 1}, timeout=60).json()
            assert answer["items"][0]["title"].endswith(" again")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_closed_terminal_stops_the_server_and_leaves_no_folder(
    folder, tmp_path, monkeypatch, workers
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with serving(folder, "--workers", workers) as (url, process, _):
        wait_until(lambda: not is_refused(url))
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 0
        assert not [*tmp_path.glob("recsys-serve-*")]


def test_workers_survive_the_removal_of_their_folder(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with serving(folder, "--workers", "2") as (url, process, _):
        wait_until(lambda: not is_refused(url))
        (shared,) = tmp_path.glob("recsys-serve-*")
        shutil.rmtree(shared)
        log = map(json.loads, process.stderr)
        assert any("was removed: workers start again" in line["event"] for line in log)
        statuses = set()
        for _ in range(2):  # new workers
            assert any(line["event"].startswith("Application startup complete") for line in log)
            statuses.add(httpx.get(f"{local(url)}/metrics", timeout=60).status_code)
        created = httpx.post(f"{local(url)}/v1/sessions", timeout=60)
        assert (statuses, created.status_code) == ({200}, 201)
        assert (shared / "sessions.db").exists()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert not shared.exists()


def test_metrics_without_their_folder_are_those_of_the_worker(tmp_path):
    """In a process of its own, since the variable is read on import."""
    program = """
import os, shutil, sys
os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
from recsys.serving.middleware import Metrics
metrics = Metrics()
metrics.loaded.set(5)
shutil.rmtree(sys.argv[1])
metrics.sessions.set(7)
print(metrics.exposition().decode())
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "recsys_live_sessions 7.0" in output
    assert "recsys_model_loaded_timestamp_seconds 5.0" in output


class Dead:
    """A process that has ended at once."""

    pid, exitcode = 12345678, 3

    def is_alive(self):
        return False


def test_workers_that_die_at_the_start_are_started_less_and_less_often(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    now, starts = [0], []
    monkeypatch.setattr(server.time, "monotonic", lambda: now[0])

    def start():
        starts.append(now[0])
        return Dead()

    monkeypatch.setattr(server, "_LOGGER", logging.getLogger("test"))
    worker = server._Worker(start)
    for second in range(50):
        now[0] = second
        worker.replace_if_dead()
    assert starts == [0, 1, 4, 9, 18, 29, 40]  # a second after each death, it is noticed
    assert len(caplog.records) == len(starts)
    assert caplog.messages[1] == "worker 12345678 exited with 3; the next one starts in 2 s"


def test_a_folder_of_another_user_is_not_shared(tmp_path, monkeypatch):
    monkeypatch.setattr(server.os, "getuid", lambda: os.geteuid() + 1)
    with pytest.raises(PermissionError, match="belongs to another user"):
        server._SharedFolder(tmp_path)


def test_files_of_workers_do_not_look_old(tmp_path, monkeypatch):
    folder = server._SharedFolder(tmp_path / "shared")
    file = tmp_path / "shared" / "metrics" / "counter_1.db"
    file.touch()
    os.utime(file, (0, 0))
    assert not folder.keep()
    assert file.stat().st_mtime == 0
    monkeypatch.setattr(server, "_TOUCH_EVERY", 0.0)
    assert not folder.keep()
    assert file.stat().st_mtime > 0


def test_the_module_is_the_command():
    command = [sys.executable, "-m", "recsys.cli", "--help"]
    assert "serve" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("key", ["", "  ", "short", "k" * 15 + "\n", "ключ" * 5])
def test_an_unusable_key_is_no_missing_key(folder, key, capsys, monkeypatch):
    from recsys.cli.main import main

    monkeypatch.setenv("RECSYS_API_KEY", key)
    monkeypatch.setattr(sys, "argv", ["recsys", "serve", str(folder)])
    with pytest.raises(SystemExit):
        main()
    assert "api_key: a key must have at least 16" in capsys.readouterr().err
