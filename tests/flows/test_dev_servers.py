"""`make server`: both servers on loopback, started and stopped together."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.cli import main
from flows.dev_servers import Server, mlflow_server, prefect_server, run

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys
from flows.dev_servers import Server, run
command = ["http.server", "--bind", "127.0.0.1"]
sys.exit(run([
    Server(port, [*command, port], {}, f"http://127.0.0.1:{port}") for port in sys.argv[1:]
]))
"""


def free_ports(n):
    probes = [socket.socket() for _ in range(n)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [str(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def start(ports):
    """Two small servers, run like the real ones."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *ports],
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    lines = [process.stdout.readline() for _ in range(3)]
    return process, lines, psutil.Process(process.pid).children()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_both_servers(number):
    ports = free_ports(2)
    process, lines, children = start(ports)
    assert lines[:2] == [f"{port}: http://127.0.0.1:{port}\n" for port in ports]
    assert "PREFECT_API_URL" in lines[2]
    assert len(children) == 2
    process.send_signal(number)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert rest == "Stopping.\n"
    assert not any(child.is_running() for child in children)


def test_if_one_server_exits_the_other_is_stopped():
    process, _, children = start(free_ports(2))
    children[0].kill()
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "exited with status" in rest
    assert not any(child.is_running() for child in children)


@pytest.fixture
def handlers():
    """Restores the signal handlers that `run` sets."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_port_in_use_is_an_error_before_any_server_starts(handlers, tmp_path):
    touch = ["timeit", "-n1", "-r1", f"open({str(tmp_path / 'started')!r}, 'w')"]
    with socket.create_server(("127.0.0.1", 0)) as used:
        taken, (free,) = used.getsockname()[1], free_ports(1)
        first = Server("First", touch, {}, f"http://127.0.0.1:{free}")
        second = Server("Second", touch, {}, f"http://127.0.0.1:{taken}")
        with pytest.raises(SystemExit, match=rf"Second cannot .* {taken} .*in use.*PREFECT_PORT="):
            run([first, second])
    with pytest.raises(SystemExit, match=rf"Second cannot listen on port {free} "):
        run([first, first._replace(name="Second")])
    assert not list(tmp_path.iterdir())


def test_a_server_that_does_not_start_is_an_error(handlers):
    (port,) = free_ports(1)
    server = Server("Web", ["timeit", "-n1", "-r1", "1"], {}, f"http://127.0.0.1:{port}")
    with pytest.raises(SystemExit, match=r"Web did not start: `python -m timeit .*` says why"):
        run([server])


def test_servers_listen_on_loopback_and_send_no_telemetry():
    server = prefect_server(4200)
    assert server.command[server.command.index("--host") + 1] == "127.0.0.1"
    assert server.environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    settings = mlflow_server(5000, ROOT / "mlflow/server.env").environment
    assert settings["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert settings["MLFLOW_BACKEND_STORE_URI"].startswith("sqlite:///mlflow/")


def test_a_missing_file_is_an_error_without_a_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "flows.dev_servers"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "run from the project folder" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_prefect_server_that_does_not_respond_is_an_error(capsys):
    (port,) = free_ports(1)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with (
            temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}),
            pytest.raises(SystemExit),
        ):
            main(["train"])
        assert re.search(r"the Prefect server at .* does not respond", capsys.readouterr().err)
    finally:
        signal.signal(signal.SIGTERM, before)
