"""The server in one or several processes."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from recsys.recommender.bundle import save_bundle
from recsys.serving import server
from recsys.serving.config import ServingConfig

KEY = "a key of enough letters"


@pytest.fixture(scope="module")
def folder(bundle, tmp_path_factory):
    return save_bundle(bundle, tmp_path_factory.mktemp("serve") / "bundle")


@contextmanager
def serving(folder, *options, key=""):
    """A running server: its URL, its process and the lines of its log so far."""
    command = "from recsys.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "serve", str(folder), "--port", "0", *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RECSYS_API_KEY": key, "OMP_NUM_THREADS": "1"},
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


def test_workers_share_port_sessions_and_metrics(bundle, folder):
    ids = bundle.catalogue["item_id"].tolist()
    with serving(folder, "--workers", "2", "--host", "0.0.0.0") as (url, process, lines):
        assert any("without an API key" in line["event"] for line in lines)
        counts = []
        for item in ids[:8]:  # one connection each, so that both workers get some
            path = f"{local(url)}/v1/sessions/one/events"
            counts.append(httpx.post(path, json={"item": item}, timeout=60).json()["n_events"])
        assert counts == list(range(1, 9))
        output = httpx.get(f"{local(url)}/metrics", timeout=60).text
        assert 'route="/v1/sessions/{session_id}/events",status="200"} 8.0' in output
        process.send_signal(signal.SIGTERM)
        log = [json.loads(line) for line in process.stderr]
        assert process.wait(60) == 0
        assert sum(line["event"].startswith("Finished server process") for line in log) == 2
        assert sum(line["event"] == "request" for line in log) == 9


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
