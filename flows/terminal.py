"""Flows started from a terminal: a user's mistake is told in a line, not in a traceback."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from recsys.errors import RecsysError


@contextmanager
def told_plainly() -> Iterator[None]:
    """End the program with a plain message where the library raises one of its own errors."""
    loggers = [logging.getLogger(f"prefect.{kind}") for kind in ("flow_runs", "task_runs")]
    for logger in loggers:
        logger.addFilter(_without_traceback)
    try:
        yield
    except RecsysError as error:
        sys.exit(f"error: {error}")
    finally:
        for logger in loggers:
            logger.removeFilter(_without_traceback)


def _without_traceback(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], RecsysError):
        record.exc_info = None
    return True
