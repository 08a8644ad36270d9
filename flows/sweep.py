"""Settings side by side: every combination tried once, in parallel, and compared."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated, Any

import typer
from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.futures import PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner
from pydantic import Field

from flows.artifacts import report_failure, run_link
from flows.cli import friendly_errors, prefect_api
from flows.locking import training_lock
from flows.process_pool import terminate_pool
from flows.search_space import SearchSpace, Trial
from flows.settings import read_settings
from flows.tasks.data import read, resolve_source
from flows.tasks.sweep import SweepInputs, run_trial, save_inputs, trial_key
from recsys import tracking
from recsys.config import Runtime
from recsys.console import print_table, results_frame, to_records
from recsys.cooccurrence import CooccurrenceConfig
from recsys.data import DataConfig
from recsys.evaluation import PRIMARY_METRIC

SHOWN = (
    f"validation_{PRIMARY_METRIC}",
    "validation_hit_rate_at_10",
    "loss_ratio",
    "seconds",
)


@flow(
    name="sweep",
    on_failure=[report_failure],
    on_crashed=[report_failure],
    on_cancellation=[report_failure],
)
def sweep(
    source: str | None = None,
    data: DataConfig = DataConfig(),
    cooccurrence: CooccurrenceConfig = CooccurrenceConfig(),
    search: SearchSpace = SearchSpace(),
    runtime: Runtime = Runtime(),
    parallel: Annotated[int, Field(ge=1)] = 1,
    cluster: str | None = None,
    experiment: str | None = None,
) -> str:
    """Try out every combination of some settings; gives back the id of the MLflow run.

    A combination that was tried before, on the same data, is not tried again, whichever sweep
    it was part of: what was interrupted goes on.

    Args:
        source: a folder or file of ratings; None takes MovieLens latest-small.
        data: how the ratings are read, checked, filtered and split.
        cooccurrence: what counts as liked.
        search: which settings, and their values.
        runtime: device, precision, seed and threads of each trial.
        parallel: how many trials at once, each in a process of its own.
        cluster: the address of a Dask scheduler whose workers try them instead; they need to see
            the working directory.
        experiment: where in MLflow to record the runs; None names it by data and protocol, so
            that they stand beside the trainings on the same.
    """
    source = resolve_source(source)
    name = tracking.run_name(
        "sweep", {"search": search, "cooccurrence": cooccurrence, "runtime": runtime}
    )
    place = experiment or tracking.experiment_name(source, data)
    with training_lock(), tracking.start_run(name, place) as run:
        run.log_config(data=data, cooccurrence=cooccurrence, runtime=runtime)
        split = read(source, data, run)
        inputs = save_inputs(split, data, cooccurrence, run)
        trials = {trial_key(t, inputs, runtime): t for t in search.trials()}
        known = {digest for digest in trials if tracking.find_by_inputs(digest)}
        left = {digest: trial for digest, trial in trials.items() if digest not in known}
        get_run_logger().info("%d of %d trials are left to do", len(left), len(trials))
        run_trials.with_options(task_runner=_runner(parallel, cluster))(left, inputs, runtime, run)
        _compare(trials, known, run)
    return run.run_id


@flow(name="trials")
def run_trials(
    trials: dict[str, Trial], inputs: SweepInputs, runtime: Runtime, run: tracking.Run
) -> None:
    """Try them all; one that fails does not keep the others from being tried."""
    begun = [
        run_trial.submit(digest, trial, inputs, runtime, run.run_id)
        for digest, trial in trials.items()
    ]
    try:
        for future in begun:
            _wait_for(future)
    except BaseException:  # cancelled: the pool would wait for the trials that are going on
        terminate_pool()
        raise


def _wait_for(future: PrefectFuture[Any]) -> None:
    """Wait within reach of Ctrl-C, which a wait without end was seen not to hear of."""
    done = threading.Event()
    future.add_done_callback(lambda _future: done.set())
    while not done.wait(timeout=1.0):
        pass


def _runner(parallel: int, cluster: str | None) -> TaskRunner[Any]:
    """Processes rather than threads: torch draws dropout from generators that threads share."""
    if cluster is not None:
        from prefect_dask.task_runners import DaskTaskRunner

        return DaskTaskRunner(address=cluster)
    if parallel == 1:
        return ThreadPoolTaskRunner(max_workers=1)
    return ProcessPoolTaskRunner(max_workers=parallel)


def _compare(trials: dict[str, Trial], known: set[str], run: tracking.Run) -> None:
    """One table of all trials, those of earlier sweeps among them, the best first."""
    rows = []
    for digest, trial in trials.items():
        found = tracking.find_by_inputs(digest)
        metrics = found.metrics if found else {}
        status = "failed" if found is None else "known" if digest in known else "new"
        figures = {name: metrics.get(name) for name in SHOWN}
        rows.append({"trial": trial.name, **figures, "status": status})
    table = results_frame(rows, by=SHOWN[0])
    run.log_table(table, "trials")
    create_table_artifact(key="sweep", table=to_records(table), description=f"Run: {run_link(run)}")
    print_table(table.reset_index(), "Trials, validation targets, whole catalogue ranked")


def main(
    source: Annotated[str | None, typer.Option(help="A folder or file of ratings.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML with tables [search.embeddings], [data], …"),
    ] = None,
    parallel: Annotated[int, typer.Option(help="How many trials at once.")] = 1,
    cluster: Annotated[str | None, typer.Option(help="The address of a Dask scheduler.")] = None,
) -> None:
    """Try out every combination of some settings."""
    with friendly_errors():
        settings = read_settings(config)
        with prefect_api():
            sweep(
                source,
                settings.data,
                settings.cooccurrence,
                settings.search,
                settings.runtime,
                parallel,
                cluster,
                settings.experiment,
            )


if __name__ == "__main__":
    typer.run(main)
