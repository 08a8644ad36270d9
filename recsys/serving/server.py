"""Run the application in one process, or in several that share a port."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import uvicorn
from fastapi import FastAPI
from threadpoolctl import threadpool_limits

from recsys.errors import ConfigError
from recsys.recommender import Recommender
from recsys.serving.config import METRICS_DIR_VARIABLE, ServingConfig

_LOGGER = logging.getLogger("recsys.serving")
_BACKLOG = 2048
_GRACE = 5.0
"""Seconds in which a client reads the response to a request that took too long to arrive."""
_SHUTDOWN_TIMEOUT = 15
"""Seconds that running requests have to finish after a stop signal."""


def serve(current: Callable[[], Recommender], config: ServingConfig, source: str) -> None:
    """Serve until SIGTERM or SIGINT; running requests are finished first.

    Args:
        current: Returns the current recommender; see `create_app`.
        config: Address, access and limits.
        source: Where the recommender comes from.

    Raises:
        ConfigError: The address cannot be bound, or the system cannot share a port.
    """
    configure_logging(config.log_level)
    host, workers = config.host, config.workers
    is_local = host in ("localhost", "::1") or host.startswith("127.")
    if not is_local and config.api_key is None:
        _LOGGER.warning("listening on %s without an API key: anyone can send requests", host)
    with ExitStack() as stack:
        sockets = [stack.enter_context(sock) for sock in _bind(host, config.port, workers)]
        if workers > 1:
            shared = TemporaryDirectory(prefix="recsys-serve-", ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(shared))
            (folder / "metrics").mkdir()
            os.environ[METRICS_DIR_VARIABLE] = str(folder / "metrics")
            config = config.model_copy(update={"session_store": str(folder / "sessions.db")})
        # Imports prometheus_client, which reads the variable.
        from recsys.serving.app import create_app

        app = create_app(current, config, source)
        url = f"http://{host}:{sockets[0].getsockname()[1]}"
        _LOGGER.info("serving", extra={"fields": {"source": source, "url": url}})
        # The matrix products of a request take less time than synchronising BLAS threads.
        if not (os.environ.get("OMP_NUM_THREADS") or os.environ.get("OPENBLAS_NUM_THREADS")):
            stack.enter_context(threadpool_limits(limits=1, user_api="blas"))
        if workers > 1:
            _supervise(app, sockets, config)
        else:
            _run(app, sockets[0], config)


def _bind(host: str, port: int, workers: int) -> list[socket.socket]:
    """One socket for each worker, all on the same port, so that the system balances connections."""
    if workers > 1 and not (hasattr(socket, "SO_REUSEPORT") and hasattr(os, "fork")):
        raise ConfigError("this system cannot share a port between processes: use one worker")
    sockets: list[socket.socket] = []
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # Without SO_REUSEPORT first, which would silently share the port with another server.
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            bound = probe.getsockname()
        for _ in range(workers):
            sock = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if workers > 1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(bound)
            sock.listen(_BACKLOG)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise ConfigError(f"cannot listen on {host}:{port}: {error}") from error
    return sockets


def _run(app: FastAPI, sock: socket.socket, settings: ServingConfig) -> None:
    """Serve in this process."""
    proxies = settings.proxies
    config = uvicorn.Config(
        app,
        http=_limited_protocol(settings),
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies or None,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT,
    )
    # uvicorn raises the signal again after its shutdown; exit with status 0 then.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    uvicorn.Server(config).run([sock])


def _limited_protocol(settings: ServingConfig) -> Any:
    """The HTTP protocol. Where there is no httptools, h11 limits only the size of headers."""
    if sys.platform == "win32":
        return "h11"
    from resource import RLIMIT_NOFILE, getrlimit

    from recsys.serving.protocol import LimitedProtocol

    return partial(
        LimitedProtocol,
        seconds=settings.body_timeout + _GRACE,
        max_body_bytes=settings.max_body_bytes,
        max_connections=min(settings.max_connections, max(1, getrlimit(RLIMIT_NOFILE)[0] - 100)),
    )


def _work(app: FastAPI, sockets: list[socket.socket], number: int, config: ServingConfig) -> None:
    """Serve in a worker process, until the parent stops it or dies."""
    for other in sockets[:number] + sockets[number + 1 :]:
        other.close()  # else the port would accept connections after its worker has stopped

    def stop_with_parent() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=stop_with_parent, daemon=True).start()
    _run(app, sockets[number], config)


def _supervise(app: FastAPI, sockets: list[socket.socket], config: ServingConfig) -> None:
    """Run workers that are forked from this process and share the model's memory.

    A worker that dies is replaced. Its socket stays open, so that connections wait.
    """
    from prometheus_client.multiprocess import mark_process_dead

    context, is_stopping = multiprocessing.get_context("fork"), False

    def stop(*_: object) -> None:
        nonlocal is_stopping
        is_stopping = True

    def start(number: int) -> BaseProcess:
        worker = context.Process(target=_work, args=(app, sockets, number, config), daemon=True)
        worker.start()
        return worker

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    workers = [start(number) for number in range(len(sockets))]
    while not is_stopping:
        time.sleep(0.2)
        for index, worker in enumerate(workers):
            if not worker.is_alive():
                _LOGGER.error("worker %s exited with %s", worker.pid, worker.exitcode)
                mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
                workers[index] = start(index)
    for sock in sockets:
        sock.close()
    _stop(workers)


def _stop(workers: list[BaseProcess]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(_SHUTDOWN_TIMEOUT + 5)
        if worker.is_alive():
            worker.kill()


class JSONFormatter(logging.Formatter):
    """Formats log records as lines of JSON, with the fields of `extra={"fields": …}`.

    Of an exception only the type and the traceback are logged: the message may contain personal
    data.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "process": record.process,
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["traceback"] = [
                f"{frame.filename}:{frame.lineno} {frame.name}"
                for frame in traceback.extract_tb(record.exc_info[2])
            ]
        return json.dumps(line, ensure_ascii=False)


def configure_logging(level: str) -> None:
    """Write the server's logs to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter())
    for name in ("recsys", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False
