"""`make server`: both servers on loopback, started and stopped as one."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from flows.dev_servers import Server, prefect_server, read_settings, run

ROOT = Path(__file__).parents[2]
ANSWERS = ["http.server", "--bind", "127.0.0.1"]

SCRIPT = """
import sys
from flows.dev_servers import Server, run
command = ["http.server", "--bind", "127.0.0.1"]
sys.exit(run([
    Server(port, [*command, port], {}, f"http://127.0.0.1:{port}", "/") for port in sys.argv[1:]
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


def begin(ports):
    """Two small servers, minded as the real ones are."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *ports],
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    told = [process.stdout.readline() for _ in range(3)]
    return process, told, psutil.Process(process.pid).children()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_both_and_nothing_is_left(number):
    ports = free_ports(2)
    process, told, children = begin(ports)
    assert told[:2] == [f"{port}: http://127.0.0.1:{port}\n" for port in ports]
    assert "PREFECT_API_URL" in told[2]
    assert len(children) == 2
    process.send_signal(number)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert rest == "stopping\n"
    assert not any(child.is_running() for child in children)


def test_where_one_ends_by_itself_the_other_is_ended():
    process, _, children = begin(free_ports(2))
    children[0].kill()
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "ended by itself" in rest
    assert not any(child.is_running() for child in children)


def test_a_port_in_use_is_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        server = Server("Web", [*ANSWERS, port], {}, f"http://127.0.0.1:{port}", "/")
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        try:
            with pytest.raises(SystemExit, match="Web ended at once: is http"):
                run([server])
        finally:
            for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
                signal.signal(number, handler)


def test_servers_listen_on_loopback_and_report_to_nobody():
    server = prefect_server(4200)
    assert server.command[server.command.index("--host") + 1] == "127.0.0.1"
    assert server.environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    settings = read_settings(ROOT / "mlflow/server.env")
    assert settings["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert settings["MLFLOW_BACKEND_STORE_URI"].startswith("sqlite:///mlflow/")


@pytest.mark.parametrize(
    ("module", "message"),
    [("flows.dev_servers", "start the servers from the project's folder"),
     ("flows.train", "does not answer")],
)  # fmt: skip
def test_what_is_not_there_is_told_without_a_traceback(tmp_path, module, message):
    (port,) = free_ports(1)
    nobody = f"http://127.0.0.1:{port}/api"
    done = subprocess.run(
        [sys.executable, "-m", module],
        cwd=tmp_path,
        env={**os.environ, "PREFECT_API_URL": nobody, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
