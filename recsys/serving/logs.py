"""Logs as lines of JSON: what was asked when, and never what somebody watched."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from datetime import UTC, datetime
from typing import Any

LOGGER = logging.getLogger("recsys.serving")


class JSONLines(logging.Formatter):
    """A log record as a line of JSON; fields given as `extra={"fields": …}` stand beside it.

    Of an error only its type and where it happened: its message may tell what somebody watched.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "process": record.process,
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["at"] = [
                f"{frame.filename}:{frame.lineno} {frame.name}"
                for frame in traceback.extract_tb(record.exc_info[2])
            ]
        return json.dumps(line, ensure_ascii=False)


def log_as_json(level: str) -> None:
    """Send the logs of the server to standard error, as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONLines())
    for name in ("recsys", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False


def log_request(started: float, fields: dict[str, Any]) -> None:
    """One line for one request."""
    if LOGGER.isEnabledFor(logging.INFO):
        told = fields | {"ms": round(1000 * (time.perf_counter() - started), 2)}
        LOGGER.info("request", extra={"fields": told})
