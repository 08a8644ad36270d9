"""Flows started from a terminal: mistakes and Ctrl-C end in a line, not in a traceback."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import httpx
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from recsys.errors import NetworkError, RecsysError

_INTERRUPTED = 128 + signal.SIGINT
"""The exit status by which shells know Ctrl-C."""


@contextmanager
def friendly_errors() -> Iterator[None]:
    """End the program in a line where the library raises one of its own errors, or at Ctrl-C."""
    loggers = [logging.getLogger(f"prefect.{kind}") for kind in ("flow_runs", "task_runs")]
    for logger in loggers:
        logger.addFilter(_without_traceback)
    try:
        yield
    except RecsysError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the next run goes on after the latest epoch\n")
        sys.exit(_INTERRUPTED)
    finally:
        for logger in loggers:
            logger.removeFilter(_without_traceback)


@contextmanager
def prefect_api() -> Iterator[None]:
    """One Prefect server for all processes of a flow: the one that is named, or a temporary one.

    Left to themselves, processes that a flow starts would each start a temporary server of their
    own. It is started out of the reach of Ctrl-C: a terminal interrupts every process that was
    started from it, and the flow could then not tell its end to a server that is already gone, and
    would keep trying for minutes. A process keeps the signals blocked that were blocked when it was
    started; Prefect ends its server by another, when the program ends in an orderly way. SIGTERM is
    made such a way.

    Raises:
        NetworkError: the server that is named does not answer.
    """
    signal.signal(signal.SIGTERM, _leave)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with get_client(sync_client=True) as client:
            address = str(client.api_url)
            client.hello()
    except httpx.HTTPError as error:
        raise NetworkError(
            f"Prefect's server at {address} does not answer ({error}): start it (`make server`), "
            "or unset PREFECT_API_URL to do without"
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with temporary_settings({PREFECT_API_URL: address}):
        yield


def _leave(signum: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signum)


def _without_traceback(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], RecsysError):
        record.exc_info = None
    return True
