"""What the flows share: parameters, failure reports, retries, the training lock, artifacts."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from inspect import Parameter, Signature
from threading import Event
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID, uuid4

import httpx
from prefect import Flow, Task, artifacts, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.tasks import exponential_backoff

from flows.best_effort import try_prefect
from flows.cache import CACHE_DIR
from flows.settings import Settings
from recsys import tracking
from recsys.callbacks import EpochCallback, compose
from recsys.console import progress_bar
from recsys.errors import NetworkError, RecsysError
from recsys.tracking.gc import cache_lock

P = ParamSpec("P")
R = TypeVar("R")

TRAINING = "training"
"""The tag of tasks that need a whole machine. `prefect concurrency-limit create training 1`
keeps several machines from training at the same time."""

_COMMON_SETTINGS = {"source", "include_user_histories", "experiment", "model_name"}
"""Settings that belong to no stage. `replace_champion` is for a single run, not for a file."""

_UPDATE_SECONDS = 2.0
"""Minimum time between two updates of a progress artifact."""

_HOW_TO_CONTINUE = (
    "Start it again with the same parameters (*Retry* here, or `prefect deployment run`). Cached "
    "results are reused and training resumes after the latest epoch. Nothing that is in use has "
    "changed. See `docs/how-to/operate.md`."
)


def pipeline_flow(*names: str) -> Callable[[Callable[[Settings], R]], Flow[..., R]]:
    """Create a flow from a function that takes `Settings`.

    The flow has the named settings as parameters, typed, validated and described in Prefect's
    form. It leaves the artifact `failure` if it fails, crashes or is cancelled.
    """
    kind, parameters, texts = Parameter.POSITIONAL_OR_KEYWORD, [], []
    for name in names:
        field = Settings.model_fields[name]
        annotation = field.rebuild_annotation()
        parameters.append(Parameter(name, kind, default=field.default, annotation=annotation))
        texts.append(f"    {name}: {' '.join(str(field.description).split())}")
    signature = Signature(parameters)

    def decorate(function: Callable[[Settings], R]) -> Flow[..., R]:
        def run(*args: Any, **kwargs: Any) -> R:
            result = function(Settings(**signature.bind(*args, **kwargs).arguments))
            vars(run)["is_finished"] = True  # for the command line, if Prefect does not answer
            return result

        vars(run).update(__signature__=signature, __module__=function.__module__)
        run.__name__ = run.__qualname__ = function.__name__
        run.__doc__ = "\n".join([function.__doc__ or "", "", "Args:", *texts])
        return flow(
            name=run.__name__,
            on_failure=[report_failure],
            on_crashed=[report_failure],
            on_cancellation=[report_failure],
        )(run)

    return decorate


def flow_parameters(flow: Flow[..., Any], settings: Settings) -> dict[str, Any]:
    """The settings that are parameters of a flow."""
    return {name: getattr(settings, name) for name in flow.parameters.properties}


def report_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Create an artifact with the error, the parameters and how to continue.

    For crashed and cancelled runs the worker calls this, outside of any run.
    """
    details = {
        "run": flow_run.name,
        "state": state.name,
        "started": flow_run.start_time or flow_run.expected_start_time,
        "parameters": f"`{flow_run.parameters}`",
    }
    title = f"{flow.name}: {state.name}"
    paragraphs = [f"# {title}", f"> {state.message}", markdown_list(details), _HOW_TO_CONTINUE]
    artifact = ArtifactCreate(
        type="markdown",
        key="failure",
        description=title,
        data="\n\n".join(paragraphs),
        flow_run_id=flow_run.id,
    )
    with get_client(sync_client=True) as client, suppress(httpx.HTTPError):
        client.create_artifact(artifact)


def io_task(name: str, timeout_seconds: float) -> Callable[[Callable[P, R]], Task[P, R]]:
    """A task that reads or writes, with three retries, after about 2, 4 and 8 seconds."""
    return task(
        cache_policy=NO_CACHE,
        task_run_name=name,
        retries=3,
        retry_delay_seconds=exponential_backoff(2),
        retry_jitter_factor=0.5,
        retry_condition_fn=is_transient,
        timeout_seconds=timeout_seconds,
    )


def is_transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether a retry may help. Of the library's own errors, only those of the network are."""
    error = state.data
    return isinstance(error, NetworkError) or not isinstance(error, RecsysError)


@contextmanager
def training_lock() -> Iterator[None]:
    """Keep other runs of this machine from training, once those in progress have finished.

    Temporary files, those of MLflow included, are in the cache meanwhile: what a killed run left
    there is removed by the next one.
    """
    with cache_lock(CACHE_DIR, get_run_logger().info) as folder:
        before, tempfile.tempdir = tempfile.tempdir, str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before


@contextmanager
def alongside(
    work: Callable[[Callable[[], None]], R], *, in_thread: bool = True
) -> Iterator[Future[R]]:
    """Do some work while the block runs, in a thread, or else after the block.

    `work` is passed a function to call from time to time, which raises an error once the block has
    failed or was interrupted. The block ends when both have ended.
    """
    stopped = Event()

    def check() -> None:
        if stopped.is_set():
            raise KeyboardInterrupt  # marks the MLflow run in progress as killed

    if not in_thread:
        future: Future[R] = Future()
        yield future
        future.set_result(work(check))
        return
    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(copy_context().run, work, check)
        except BaseException:
            stopped.set()
            raise


@contextmanager
def training_run(
    kind: str, source: str, settings: Settings, *stages: str
) -> Iterator[tracking.Run]:
    """An MLflow run.

    If MLflow does not answer, the run is kept in `mlflow/pending`, from where `recsys sync` sends
    it. It records `data` and the settings of `stages`. Its name has non-default values and `kind`.
    """
    configs = {name: getattr(settings, name) for name in stages}
    name = tracking.run_name(kind, configs)
    experiment = settings.experiment or tracking.experiment_name(source, settings.data)
    pending = tracking.PENDING / uuid4().hex
    with tracking.start_run(name, experiment, pending) as run:
        record_settings(run, settings, *stages)
        tracking.tag_data_config(run, settings.data)
        yield run


def record_settings(run: tracking.Run, settings: Settings, *stages: str) -> None:
    """Record the main settings as parameters, and all of them as `config.json`, for `--config`."""
    names = ("data", *stages)
    run.log_main_settings(**{name: getattr(settings, name) for name in names})
    run.log_json(settings.model_dump(mode="json", include={*_COMMON_SETTINGS, *names}), "config")


def create_markdown(key: str, title: str, *paragraphs: str) -> None:
    """Create a Markdown artifact; its key is made of lower-case letters and dashes."""
    text = "\n\n".join([f"# {title}", *paragraphs])
    try_prefect(artifacts.create_markdown_artifact, key=key, markdown=text)


def markdown_list(items: Mapping[str, Any]) -> str:
    """Names and values as a Markdown list."""
    return "\n".join(f"- **{name}**: {value}" for name, value in items.items())


def run_link(run: tracking.Run) -> str:
    """A Markdown link to a run in MLflow's UI, or its id if the address is unknown.

    RECSYS_MLFLOW_UI is the address, if it is not the tracking URI.
    """
    if run.pending is not None:
        return f"`{run.run_id}`"
    address = os.environ.get("RECSYS_MLFLOW_UI") or run.client.tracking_uri
    if not address.startswith("http"):
        return f"`{run.run_id}`"
    page = f"{address.rstrip('/')}/#/experiments/{run.experiment_id}/runs/{run.run_id}"
    return f"[{run.run_id[:8]}]({page})"


@contextmanager
def progress(description: str, epochs: int, metric: str) -> Iterator[EpochCallback]:
    """Show progress in Prefect and on the terminal; without a terminal, in the run's log.

    Yields an `on_epoch(epoch, metrics)`. Nothing is logged if `metric` is empty.
    """
    create = artifacts.create_progress_artifact
    artifact = cast("UUID | None", try_prefect(create, 0.0, description=description))
    updated = time.monotonic()

    def update(epoch: int, _metrics: Mapping[str, float]) -> None:
        nonlocal updated
        if artifact and time.monotonic() - updated > _UPDATE_SECONDS:
            try_prefect(artifacts.update_progress_artifact, artifact, 100 * epoch / epochs)
            updated = time.monotonic()

    print_line = get_run_logger().info if metric else None
    with progress_bar(description, epochs, metric, print_line=print_line) as show:
        yield compose(show, update)
    if artifact:
        try_prefect(artifacts.update_progress_artifact, artifact, 100.0)
