"""What a training does without: Prefect's API, once it stops answering during a run, and output."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import httpx
from prefect import Task, get_run_logger
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError

P = ParamSpec("P")
R = TypeVar("R")

_PAUSE_SECONDS = 60.0
"""How long the API is not called after it failed, so that a run does not wait at every call."""


class _Api:
    retry_at = 0.0


def try_prefect(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
    """Call Prefect's API for what a run can do without, such as an artifact.

    Returns None if the API does not answer; this is logged, and it is not called for a minute.
    """
    if time.monotonic() < _Api.retry_at:
        return None
    try:
        return call(*args, **kwargs)
    except httpx.HTTPError as error:
        _Api.retry_at = time.monotonic() + _PAUSE_SECONDS
        message = "The Prefect server does not answer (%s); the run goes on without it."
        get_run_logger().warning(message, error)
        return None


def try_print(show: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call a function that prints. If standard output cannot be written, this is logged."""
    try:
        show(*args, **kwargs)
    except OSError as error:
        get_run_logger().warning("Standard output cannot be written: %s", error.strerror)


def run_limited(task: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a task with tags, whose concurrency limits Prefect's server enforces.

    Without the server there is no limit, and no record of the task.
    """
    try:
        return task(*args, **kwargs)
    except ConcurrencySlotAcquisitionError as error:
        get_run_logger().warning("%s; the run goes on without the limit.", error)
        return task.fn(*args, **kwargs)
