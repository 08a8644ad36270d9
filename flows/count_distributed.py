"""Co-occurrence counted over a Dask cluster, where the ratings outgrow one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect_dask.task_runners import DaskTaskRunner
from pydantic import Field

from flows.artifacts import markdown_list, progress, report_failure, tell
from recsys.cooccurrence import CooccurrenceConfig
from recsys.cooccurrence.distributed import count_on_cluster


@flow(
    name="count",
    on_failure=[report_failure],
    on_crashed=[report_failure],
    on_cancellation=[report_failure],
)
def count(
    data: Path,
    folder: Path,
    cooccurrence: CooccurrenceConfig = CooccurrenceConfig(),
    cluster: str | None = None,
    n_workers: Annotated[int, Field(ge=1)] = 2,
    memory_limit: str = "2GB",
) -> str:
    """Count which items are liked together, on many machines; gives back the folder of blocks.

    Args:
        data: a Parquet file, or a folder of them, that every worker sees under this path.
        folder: where to write the row blocks, on storage that every worker sees.
        cooccurrence: what counts as liked.
        cluster: the address of a Dask scheduler; None starts one here.
        n_workers: processes of a cluster that is started here.
        memory_limit: the most memory that one task shall take, about.
    """
    here = {"n_workers": n_workers, "threads_per_worker": 1, "dashboard_address": None}
    runner: Any = (
        DaskTaskRunner(address=cluster)
        if cluster
        else DaskTaskRunner(cluster_kwargs={**here, "processes": True})
    )
    counted = count_over_dask.with_options(task_runner=runner)
    facts = counted(data, folder, cooccurrence, memory_limit)
    tell("counts", f"Counts in {folder}", markdown_list(facts))
    return str(folder)


@flow(name="count over Dask")
def count_over_dask(
    data: Path, folder: Path, cooccurrence: CooccurrenceConfig, memory_limit: str
) -> dict[str, Any]:
    """Count on the cluster of the task runner."""
    context = FlowRunContext.get()
    if context is None or not isinstance(context.task_runner, DaskTaskRunner):
        raise TypeError("this flow needs Prefect's Dask task runner")
    return run_on_cluster(data, folder, cooccurrence, context.task_runner.client, memory_limit)


@task(cache_policy=NO_CACHE, task_run_name="direct")
def run_on_cluster(
    data: Path, folder: Path, cooccurrence: CooccurrenceConfig, client: Any, memory_limit: str
) -> dict[str, Any]:
    """Direct the cooccurrence; it is the workers that count.

    A task of this process rather than of a worker, where it would take the place of a task that
    it waits for.
    """
    with progress("cooccurrence", 100, "") as advance:
        blocks = count_on_cluster(
            data,
            folder,
            client,
            cooccurrence.min_rating,
            window=cooccurrence.window,
            memory_limit=memory_limit,
            on_block=lambda done, of: advance(100 * done // of, {}),
        )
    return {"items": blocks.n_items, "users": blocks.n_users, "entries": blocks.n_entries}
