"""Run the Prefect and MLflow servers on this machine: `python -m flows.dev_servers`.

Both listen on 127.0.0.1 only and send no telemetry. Prefect stores its data in PREFECT_HOME, by
default `~/.prefect`; MLflow where `mlflow/server.env` says.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated

import httpx
import typer
from dotenv import dotenv_values

from flows.cli import friendly_errors
from recsys.errors import ConfigError

HOST = "127.0.0.1"
_START_SECONDS, _STOP_SECONDS = 180, 20


@dataclass(frozen=True)
class Server:
    """A server to start."""

    name: str
    command: Sequence[str]
    """The arguments of `python -m`."""
    environment: dict[str, str]
    address: str
    health: str
    """The path that responds once the server is up."""


def prefect_server(port: int) -> Server:
    """Prefect's API and UI; the UI uses this API whatever the profile says."""
    address = f"http://{HOST}:{port}"
    environment = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "true",
        "PREFECT_UI_API_URL": f"{address}/api",
    }
    command = ["prefect", "server", "start", "--host", HOST, "--port", str(port)]
    return Server("Prefect", command, environment, address, "/api/health")


def mlflow_server(port: int, env_file: Path) -> Server:
    """MLflow's tracking server and UI."""
    command = ["mlflow", "server", "--host", HOST, "--port", str(port)]
    return Server("MLflow", command, read_env_file(env_file), f"http://{HOST}:{port}", "/health")


def read_env_file(path: Path) -> dict[str, str]:
    """Read lines `NAME=value`.

    Raises:
        ConfigError: there is no such file.
    """
    if not path.is_file():
        raise ConfigError(f"{path} is missing: run from the project folder, or set --settings")
    return {name: value for name, value in dotenv_values(path).items() if value is not None}


def run(servers: Sequence[Server]) -> int:
    """Run servers until a signal arrives or one of them exits; returns the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    with ExitStack() as stack:
        try:
            processes = [_start(server, stack) for server in servers]
            for server, process in zip(servers, processes, strict=True):
                _wait_until_up(server, process)
                _print(f"{server.name}: {server.address}")
            _print(f"export PREFECT_API_URL={servers[0].address}/api    (Ctrl-C stops both)")
            while all(process.poll() is None for process in processes):
                time.sleep(0.5)
        except KeyboardInterrupt:
            _print("Stopping.")
            return 0
        for server, process in zip(servers, processes, strict=True):
            if process.poll() is not None:
                _print(f"{server.name} exited with status {process.returncode}. Stopping all.")
        return 1


def _start(server: Server, stack: ExitStack) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", *server.command],
        env={**os.environ, **server.environment},
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # The terminal's Ctrl-C does not reach it: servers stop in order.
    )
    stack.callback(_stop, process)
    return process


def _wait_until_up(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"error: {server.name} did not start: is {server.address} in use?")
        try:
            httpx.get(server.address + server.health, timeout=5, trust_env=False)
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    sys.exit(f"error: {server.name} did not respond within {_START_SECONDS} seconds")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate a server and its children; kill them if that takes too long."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        _print(f"Killing process {process.pid}, which does not stop.")
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _print(text: str) -> None:
    print(text, flush=True)


def main(
    prefect_port: Annotated[int, typer.Option(help="The port of Prefect's server.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="The port of MLflow's server.")] = 5000,
    settings: Annotated[Path, typer.Option(help="MLflow's settings.")] = Path("mlflow/server.env"),
) -> None:
    """Run both servers until Ctrl-C."""
    with friendly_errors():
        servers = [prefect_server(prefect_port), mlflow_server(mlflow_port, settings)]
    sys.exit(run(servers))


if __name__ == "__main__":
    typer.run(main)
