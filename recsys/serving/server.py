"""Running the application: one process, or several that share a port."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI
from threadpoolctl import threadpool_limits

from recsys.errors import ConfigError
from recsys.recommender import Recommender
from recsys.serving.config import MULTIPROCESS, ServingConfig
from recsys.serving.logs import LOGGER, log_as_json

_BACKLOG = 2048
_GRACE_SECONDS = 15
"""How long requests that are being answered may still take when the server is told to stop."""


def serve(
    current: Callable[[], Recommender],
    config: ServingConfig,
    *,
    source: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    log_level: str = "info",
    proxies: str = "",
) -> None:
    """Serve until told to stop (SIGTERM, SIGINT); what is being answered then is answered.

    Args:
        current: gives the recommender to answer with; see `create_app`.
        config: limits and access.
        source: what the recommender came from.
        host: the address to listen at.
        port: the port to listen at; 0 takes a free one, which the log tells.
        workers: how many processes.
        log_level: `info` logs every request, `warning` only what went wrong.
        proxies: addresses of proxies whose `X-Forwarded-For` is to be believed, with commas.

    Raises:
        ConfigError: the address cannot be listened at, or this system cannot share a port.
    """
    log_as_json(log_level)
    if not _is_local(host) and config.api_key is None:
        LOGGER.warning(
            "listening at %s without an API key: whoever reaches this machine can ask", host
        )
    sockets = _listen(host, port, workers)
    shared = Path(tempfile.mkdtemp(prefix="recsys-serve-")) if workers > 1 else None
    try:
        if shared is not None:
            config = _shared(config, shared)
        from recsys.serving.app import create_app  # once it is known where workers meet

        app = create_app(current, config, source)
        where = f"http://{host}:{sockets[0].getsockname()[1]}"
        LOGGER.info("serving", extra={"fields": {"source": source, "at": where}})
        with _few_threads():
            if shared is None:
                _run(app, sockets[0], proxies)
            else:
                _Workers(app, sockets, proxies).run()
    finally:
        for one in sockets:
            one.close()
        if shared is not None:
            shutil.rmtree(shared, ignore_errors=True)


def _few_threads() -> AbstractContextManager[object]:
    """BLAS without threads of its own, unless the environment says how many.

    A step of the network is a product of some microseconds. Its threads wait for one another at
    each, and where the cores are busy a request takes several times as long.
    """
    if any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")):
        return nullcontext()
    limited: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limited


def _shared(config: ServingConfig, folder: Path) -> ServingConfig:
    """Have workers keep their sessions and their numbers in one place."""
    (folder / "metrics").mkdir()
    os.environ[MULTIPROCESS] = str(folder / "metrics")  # before prometheus_client is imported
    return config.model_copy(update={"session_store": str(folder / "sessions.db")})


def _is_local(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _listen(host: str, port: int, workers: int) -> list[socket.socket]:
    """A socket for each worker, all at one port: the system spreads connections over them.

    With a single socket, the first worker to wake up would take all that wait.
    """
    if workers > 1 and not (hasattr(socket, "SO_REUSEPORT") and hasattr(os, "fork")):
        raise ConfigError("this system cannot share a port among processes: use one worker")
    sockets: list[socket.socket] = []
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # Taken alone at first: with the option, a second server would share the port unnoticed.
        with socket.socket(family, socket.SOCK_STREAM) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(address)
            bound = alone.getsockname()
        for _ in range(workers):
            one = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if workers > 1:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(bound)
            one.listen(_BACKLOG)
    except OSError as error:
        for one in sockets:
            one.close()
        raise ConfigError(f"cannot listen at {host}:{port}: {error}") from error
    return sockets


def _run(app: FastAPI, listening: socket.socket, proxies: str) -> None:
    """Serve in this process."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies or None,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    # uvicorn raises the signal again once all is answered: then this ends as other programs do.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    uvicorn.Server(config).run([listening])


class _Workers:
    """Processes forked from this one, so that they share the model's memory.

    One that dies is replaced; its socket stays open meanwhile, so that connections wait.
    """

    def __init__(self, app: FastAPI, sockets: list[socket.socket], proxies: str) -> None:
        self._app, self._sockets, self._proxies = app, sockets, proxies
        self._context = multiprocessing.get_context("fork")
        self._stopping = False

    def run(self) -> None:
        """Serve until told to stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        running = [self._start(one) for one in self._sockets]
        while not self._stopping:
            time.sleep(0.2)
            for at, process in enumerate(running):
                if not process.is_alive() and not self._stopping:
                    LOGGER.error("worker %s ended with %s", process.pid, process.exitcode)
                    running[at] = self._start(self._sockets[at])
        for process in running:
            process.terminate()
        for process in running:
            process.join(_GRACE_SECONDS + 5)
            if process.is_alive():
                process.kill()

    def _stop(self, _: int, __: FrameType | None) -> None:
        self._stopping = True

    def _start(self, listening: socket.socket) -> BaseProcess:
        process = self._context.Process(target=self._work, args=(listening,), daemon=True)
        process.start()
        return process

    def _work(self, listening: socket.socket) -> None:
        _run(self._app, listening, self._proxies)
