"""Tasks that read and write: tried again where that may help, and not waited for without end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from recsys.errors import NetworkError, RecsysError

P = ParamSpec("P")
R = TypeVar("R")

TRAINING = "training"
"""The tag of tasks that take all of a machine: `prefect concurrency-limit create training 1`
keeps several machines from training at once."""


def is_transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether what went wrong may go well the next time.

    The library's own errors tell of data and settings that will be the same the next time; only
    those of the network may pass.
    """
    error = state.data
    return isinstance(error, NetworkError) or not isinstance(error, RecsysError)


def io_task(name: str, timeout_seconds: float) -> Callable[[Callable[P, R]], Task[P, R]]:
    """A task that reads or writes: three more tries, after one, two and four seconds.

    Args:
        name: of its runs; may hold parameters in braces.
        timeout_seconds: how long one try may take.
    """
    return task(
        cache_policy=NO_CACHE,
        task_run_name=name,
        retries=3,
        retry_delay_seconds=exponential_backoff(1),
        retry_jitter_factor=0.5,
        retry_condition_fn=is_transient,
        timeout_seconds=timeout_seconds,
    )
