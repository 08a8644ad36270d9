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
from contextlib import ExitStack, suppress
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
_EARLY, _MAX_DELAY = 10.0, 10.0
"""Seconds: a worker that lives shorter is replaced after a delay, of at most so many."""
_TOUCH_EVERY = 3600.0
"""Seconds between two updates of the times of shared files, by which cleaners find old ones."""
_SHUTDOWN_TIMEOUT = 15
"""Seconds that running requests have to finish after a stop signal."""


def serve(current: Callable[[], Recommender], config: ServingConfig, source: str) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; running requests are finished first.

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
    # A terminal sends SIGHUP when it is closed; below `nohup` it is ignored.
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with ExitStack() as stack:
        sockets = [stack.enter_context(sock) for sock in _bind(host, config.port, workers)]
        if workers > 1:
            shared = TemporaryDirectory(prefix="recsys-serve-", ignore_cleanup_errors=True)
            folder = _SharedFolder(Path(stack.enter_context(shared)))
            os.environ[METRICS_DIR_VARIABLE] = str(folder.path / "metrics")
            config = config.model_copy(update={"session_store": str(folder.path / "sessions.db")})
        # Imports prometheus_client, which reads the variable.
        from recsys.serving.app import create_app

        app = create_app(current, config, source)
        shown_host = f"[{host}]" if ":" in host else host
        url = f"http://{shown_host}:{sockets[0].getsockname()[1]}"
        _LOGGER.info("serving", extra={"fields": {"source": source, "url": url}})
        # The matrix products of a request take less time than synchronising BLAS threads.
        if not (os.environ.get("OMP_NUM_THREADS") or os.environ.get("OPENBLAS_NUM_THREADS")):
            stack.enter_context(threadpool_limits(limits=1, user_api="blas"))
        if workers > 1:
            _supervise(app, sockets, config, folder)
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


class _SharedFolder:
    """A folder of the files that workers share: sessions and metrics."""

    def __init__(self, path: Path) -> None:
        self.path, self._metrics, self._error = path, path / "metrics", ""
        self._make()

    def _make(self) -> None:
        with suppress(FileExistsError):
            self.path.mkdir(0o700, parents=True)
        if self.path.lstat().st_uid != os.getuid():
            raise PermissionError(f"{self.path} belongs to another user")
        self._metrics.mkdir(exist_ok=True)
        self._touched = time.monotonic()

    def keep(self) -> bool:
        """Keep its files from looking old. Returns whether it was removed, and is made again."""
        try:
            if not self._metrics.is_dir():
                self._make()
                _LOGGER.error("%s was removed: workers start again, without sessions", self.path)
                self._error = ""
                return True
            if time.monotonic() >= self._touched + _TOUCH_EVERY:
                self._touched = time.monotonic()
                for path in (self.path, *self.path.rglob("*")):
                    os.utime(path)
        except OSError as error:
            if str(error) != self._error:
                self._error = str(error)
                _LOGGER.error("%s cannot be kept: %s", self.path, error)  # noqa: TRY400, expected
        return False


class _Worker:
    """A worker process, which is replaced if it dies.

    If it dies soon after its start, the next one starts later, since it may die as well. Its socket
    stays open, so that connections wait.
    """

    def __init__(self, start: Callable[[], BaseProcess]) -> None:
        self._start, self._delay = start, 0.0
        self._due: float | None = None
        self.process, self._started = start(), time.monotonic()

    def replace_if_dead(self) -> None:
        """Replace the process, now or after a delay."""
        if self.process.is_alive():
            return
        from prometheus_client.multiprocess import mark_process_dead

        now = time.monotonic()
        if self._due is None:
            with suppress(OSError):
                mark_process_dead(self.process.pid)  # type: ignore[no-untyped-call]
            is_early = now - self._started < _EARLY
            self._delay = min(2 * self._delay or 1.0, _MAX_DELAY) if is_early else 0.0
            self._due = now + self._delay
            _LOGGER.error(
                "worker %s exited with %s; the next one starts in %g s",
                *(self.process.pid, self.process.exitcode, self._delay),
            )
        if now >= self._due:
            self._due, self._started = None, now
            self.process = self._start()


def _supervise(
    app: FastAPI, sockets: list[socket.socket], config: ServingConfig, folder: _SharedFolder
) -> None:
    """Run workers that are forked from this process and share the model's memory, and a folder.

    If the folder is removed, it is made again, and the workers are replaced.
    """
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]  # this one answers no request
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
    workers = [_Worker(partial(start, number)) for number in range(len(sockets))]
    while not is_stopping:
        time.sleep(0.2)
        was_removed = folder.keep()
        for worker in workers:
            if was_removed:
                worker.process.terminate()
            worker.replace_if_dead()
    for sock in sockets:
        sock.close()
    _stop([worker.process for worker in workers])


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
