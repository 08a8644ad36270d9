"""Prefect's and MLflow's servers for this machine: `python -m flows.dev_servers`.

Both listen on 127.0.0.1 alone and keep what they know: Prefect in PREFECT_HOME (`~/.prefect`),
MLflow where `mlflow/server.env` says. Neither sends telemetry.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated

import httpx
import typer

from flows.cli import friendly_errors
from recsys.errors import ConfigError

HOST = "127.0.0.1"
_UP_SECONDS = 180
_DOWN_SECONDS = 20


@dataclass(frozen=True)
class Server:
    """A server to start."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    address: str
    health: str
    """The path that answers when it is up."""


def prefect_server(port: int) -> Server:
    """Prefect's API and UI."""
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "true"}
    address = f"http://{HOST}:{port}"
    # Where the UI of a browser on this machine finds the API, whatever a profile says.
    urls = {"PREFECT_UI_API_URL": f"{address}/api"}
    command = ["prefect", "server", "start", "--host", HOST, "--port", str(port)]
    return Server("Prefect", command, quiet | urls, address, "/api/health")


def mlflow_server(port: int, settings: Path) -> Server:
    """MLflow's tracking server and UI."""
    command = ["mlflow", "server", "--host", HOST, "--port", str(port)]
    address = f"http://{HOST}:{port}"
    return Server("MLflow", command, read_settings(settings), address, "/health")


def read_settings(path: Path) -> dict[str, str]:
    """The settings of a file of lines `NAME=value`; lines that begin with # say nothing.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error}): start the servers from the project's folder, or "
            "name a file by --settings"
        ) from error
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def run(servers: Sequence[Server]) -> int:
    """Run servers until a signal comes or one of them ends; gives back the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    with ExitStack() as stack:
        try:
            running = []
            for server in servers:
                process = _start(server)
                stack.callback(_end, process)
                running.append((server, process))
            for server, process in running:
                _wait_until_up(server, process)
                _say(f"{server.name}: {server.address}")
            _say(f"export PREFECT_API_URL={servers[0].address}/api    (Ctrl-C stops both)")
            return _watch(running)
        except KeyboardInterrupt:
            _say("stopping")
            return 0


def _start(server: Server) -> subprocess.Popen[bytes]:
    # Out of reach of the terminal's Ctrl-C: they are ended one by one, and in order.
    return subprocess.Popen(  # noqa: S603 - a command of our own
        [sys.executable, "-m", *server.command],
        env={**os.environ, **server.environment},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def _wait_until_up(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _UP_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"error: {server.name} ended at once: is {server.address} in use?")
        try:
            httpx.get(server.address + server.health, timeout=5, trust_env=False)
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    sys.exit(f"error: {server.name} did not answer within {_UP_SECONDS} seconds")


def _watch(running: Sequence[tuple[Server, subprocess.Popen[bytes]]]) -> int:
    while True:
        for server, process in running:
            if process.poll() is not None:
                _say(f"{server.name} ended by itself (status {process.returncode}): stopping all")
                return 1
        time.sleep(0.5)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server and all that it started: asked first, forced if it takes too long."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_DOWN_SECONDS)
        except subprocess.TimeoutExpired:
            _say(f"process {process.pid} does not end: killing it")
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(
    prefect_port: Annotated[int, typer.Option(help="Of Prefect's server.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Of MLflow's server.")] = 5000,
    settings: Annotated[Path, typer.Option(help="MLflow's settings.")] = Path("mlflow/server.env"),
) -> None:
    """Run both servers until Ctrl-C."""
    with friendly_errors():
        servers = [prefect_server(prefect_port), mlflow_server(mlflow_port, settings)]
    sys.exit(run(servers))


if __name__ == "__main__":
    typer.run(main)
