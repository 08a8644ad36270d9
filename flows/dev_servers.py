"""Run the Prefect and MLflow servers on this machine: `python -m flows.dev_servers`.

Both listen on 127.0.0.1 only and send no telemetry. Prefect stores its data in PREFECT_HOME, by
default `~/.prefect`; MLflow where `mlflow/server.env` says.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

import httpx
import typer
from dotenv import dotenv_values

_START_SECONDS, _STOP_SECONDS = 180, 20


class Server(NamedTuple):
    """A server: `python -m COMMAND`, which responds at its address once it is up."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    address: str


def prefect_server(port: int) -> Server:
    """Prefect's API and UI; the UI uses this API whatever the profile says."""
    address = f"http://127.0.0.1:{port}"
    environment = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "true",
        "PREFECT_UI_API_URL": f"{address}/api",
        # In memory, by default: after a restart, the slot of a killed run would never be free.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
    }
    command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    return Server("Prefect", command, environment, address)


def mlflow_server(port: int, env_file: Path) -> Server:
    """MLflow's tracking server and UI, with the environment variables of a file."""
    if not env_file.is_file():
        sys.exit(f"error: {env_file} is missing: run from the project folder, or set --settings")
    values = dotenv_values(env_file)
    environment = {name: value for name, value in values.items() if value is not None}
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    return Server("MLflow", command, environment, f"http://127.0.0.1:{port}")


def run(servers: Sequence[Server]) -> int:
    """Run servers until a signal arrives or one of them exits; returns the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    require_free_ports(servers)
    with ExitStack() as stack:
        try:
            processes = [stack.enter_context(started(server)) for server in servers]
            for server, process in zip(servers, processes, strict=True):
                wait_until_up(server, process)
                typer.echo(f"{server.name}: {server.address}")
            typer.echo(f"export PREFECT_API_URL={servers[0].address}/api    (Ctrl-C stops both)")
            while all(process.poll() is None for process in processes):
                time.sleep(0.5)
        except KeyboardInterrupt:
            typer.echo("Stopping.")
            return 0
        for server, process in zip(servers, processes, strict=True):
            if process.poll() is not None:
                typer.echo(f"{server.name} exited with status {process.returncode}. Stopping all.")
        return 1


def require_free_ports(servers: Sequence[Server]) -> None:
    """Exit if a server could not listen at its address.

    Otherwise another program's answer there would be taken for the server's.
    """
    with ExitStack() as stack:  # Holds all ports, so that two servers cannot have the same one.
        for server in servers:
            address = urlsplit(server.address)
            try:
                stack.enter_context(
                    socket.create_server((address.hostname or "", address.port or 0))
                )
            except OSError as error:
                sys.exit(
                    f"error: {server.name} cannot listen on port {address.port} "
                    f"({os.strerror(error.errno or 0)}): choose free ports, "
                    "`make server PREFECT_PORT=… PORT=…` (PORT is MLflow's), and give the same to "
                    "`make deploy` and `make worker`"
                )


@contextmanager
def started(server: Server) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server. Terminate it and its children at the end, or kill them if it takes too long."""
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", *server.command],
        env={**os.environ, **server.environment},
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # The terminal's Ctrl-C does not reach it: servers stop in order.
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            typer.echo(f"Killing process {process.pid}, which does not stop.")
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_up(server: Server, process: subprocess.Popen[bytes]) -> None:
    """Return once a server responds; exit if its process ends first."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            command = " ".join(["python -m", *server.command])
            sys.exit(f"error: {server.name} did not start: `{command}` says why")
        with suppress(httpx.HTTPError):
            httpx.get(server.address, timeout=5, trust_env=False)
            return
        time.sleep(0.2)
    sys.exit(f"error: {server.name} did not respond within {_START_SECONDS} seconds")


def main(
    prefect_port: Annotated[int, typer.Option(help="The port of Prefect's server.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="The port of MLflow's server.")] = 5000,
    settings: Annotated[Path, typer.Option(help="MLflow's settings.")] = Path("mlflow/server.env"),
) -> None:
    """Run both servers until Ctrl-C."""
    sys.exit(run([prefect_server(prefect_port), mlflow_server(mlflow_port, settings)]))


if __name__ == "__main__":
    typer.run(main)
