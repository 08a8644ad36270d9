"""Compare settings: every combination is trained once, in parallel, and evaluated alike."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from functools import cache
from multiprocessing.process import BaseProcess
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from flows.cache import cache_key, cache_path, source_hash
from flows.cli import main
from flows.orchestration import TRAINING, pipeline_flow, run_link, training_run
from flows.settings import Settings, Trial
from flows.tasks.data import read, resolve_source
from flows.tasks.training import validation_metrics
from recsys import tracking
from recsys.baselines import MeanEmbeddingConfig, fit_mean_embedding
from recsys.config import Config, Runtime
from recsys.console import print_table, results_frame, to_records
from recsys.cooccurrence import CooccurrenceConfig, count_cooccurrence
from recsys.data import DataConfig, Split, load_interactions, save_interactions
from recsys.embeddings import EmbeddingConfig, fit_embeddings, ppmi_embeddings
from recsys.evaluation import PRIMARY_METRIC, Scorer, evaluate
from recsys.sessions import SessionConfig, fit_session_model

SHOWN = (f"validation_{PRIMARY_METRIC}", "validation_hit_rate_at_10", "loss_ratio", "seconds")


class SweepInputs(Config):
    """What all trials of a sweep are trained on; small enough to send to other processes."""

    interactions: str
    """The digest of the interactions, which are in `data/cache/interactions`."""
    data: DataConfig
    cooccurrence: CooccurrenceConfig

    def split(self) -> Split:
        """The interactions, split."""
        interactions = load_interactions(cache_path("interactions", self.interactions))
        return self.data.split.apply(interactions).with_filters(self.data.filters.fingerprint())


@pipeline_flow(
    "source", "data", "cooccurrence", "search", "runtime", "parallel", "cluster", "experiment"
)
def sweep(settings: Settings) -> str:
    """Run every trial of a search space; returns the id of the MLflow run.

    Trials that any sweep has completed on the same data are not run again, so that an interrupted
    sweep resumes.
    """
    source, runtime = resolve_source(settings.source), settings.runtime
    with training_run("sweep", source, settings, "search", "cooccurrence", "runtime") as run:
        inputs = save_inputs(read(source, settings.data, run), settings, run)
        trials = {trial_key(trial, inputs, runtime): trial for trial in settings.search.trials()}
        cached = {key for key in trials if tracking.find_by_inputs(key)}
        missing = {key: trial for key, trial in trials.items() if key not in cached}
        get_run_logger().info("%d of %d trials to run.", len(missing), len(trials))
        runner = _task_runner(settings.parallel, settings.cluster)
        run_trials.with_options(task_runner=runner)(missing, inputs, runtime, run.run_id)
        _compare(trials, cached, run)
    return run.run_id


@task(cache_policy=NO_CACHE, task_run_name="save inputs")
def save_inputs(split: Split, settings: Settings, run: tracking.Run) -> SweepInputs:
    """Store the interactions where every trial can read them."""
    digest = split.interactions.digest
    save_interactions(split.interactions, cache_path("interactions", digest))
    run.log_params({"interactions": digest})
    return SweepInputs(interactions=digest, data=settings.data, cooccurrence=settings.cooccurrence)


def trial_key(trial: Trial, inputs: SweepInputs, runtime: Runtime) -> str:
    """A hash of everything that the result of a trial depends on."""
    return cache_key(
        kind=type(trial.config).__name__,
        trial=trial.config,
        inputs=inputs,
        seed=runtime.seed,
        precision=runtime.torch_precision(),
        source=source_hash(),
    )


def _task_runner(parallel: int, cluster: str | None) -> TaskRunner[Any]:
    """Processes instead of threads, which would share torch's random number generators."""
    if cluster is not None:
        from prefect_dask.task_runners import DaskTaskRunner

        return DaskTaskRunner(address=cluster)
    if parallel == 1:
        return ThreadPoolTaskRunner(max_workers=1)
    return ProcessPoolTaskRunner(max_workers=parallel)


@flow(name="trials")
def run_trials(
    trials: dict[str, Trial], inputs: SweepInputs, runtime: Runtime, parent: str
) -> None:
    """Run all trials; a failed trial does not stop the others."""
    futures = [
        run_trial.submit(key, trial, inputs, runtime, parent) for key, trial in trials.items()
    ]
    try:
        for future in futures:
            _wait_for(future)
    except BaseException:  # Cancelled: the pool would wait for the running trials.
        for process in multiprocessing.active_children():
            process.terminate()
        raise


def _wait_for(future: PrefectFuture[Any]) -> None:
    """Wait for a trial; Ctrl-C is only noticed between waits with a timeout."""
    done = threading.Event()
    future.add_done_callback(lambda _future: done.set())
    while not done.wait(timeout=1.0):
        pass


@task(cache_policy=NO_CACHE, task_run_name="{trial.name}", tags=[TRAINING])
def run_trial(key: str, trial: Trial, inputs: SweepInputs, runtime: Runtime, parent: str) -> None:
    """Train with the settings of a trial and evaluate on the validation targets."""
    exit_with_parent()
    split = inputs.split()
    with tracking.open_run(parent).child(trial.name) as child:
        tracking.tag_inputs(child, key)
        child.log_config(runtime=runtime)
        began = time.perf_counter()
        if isinstance(trial.config, EmbeddingConfig):
            model = _fit_embeddings(split, trial.config, inputs.cooccurrence, runtime, child)
        else:
            model = _fit_session_model(split, trial.config, runtime, child, key)
        child.log_metrics({"seconds": time.perf_counter() - began})
        child.log_reports({"validation": evaluate(model, split, "validation")})


def _fit_embeddings(
    split: Split,
    config: EmbeddingConfig,
    cooccurrence: CooccurrenceConfig,
    runtime: Runtime,
    child: tracking.Run,
) -> Scorer:
    """Embeddings, evaluated by the mean vector of a user's latest items."""
    child.log_config(embeddings=config)
    counts = count_cooccurrence(split.train, cooccurrence.min_rating, window=cooccurrence.window)
    fitted = fit_embeddings(counts, config, runtime=runtime, on_epoch=child.on_epoch)
    if fitted.loss_ratio is not None:
        child.log_metrics({"loss_ratio": fitted.loss_ratio})
    return fit_mean_embedding(fitted.vectors, MeanEmbeddingConfig())


def _fit_session_model(
    split: Split, config: SessionConfig, runtime: Runtime, child: tracking.Run, key: str
) -> Scorer:
    """A session model; an interrupted training resumes after its latest epoch."""
    config = config.resolve(len(split.train))
    child.log_config(session_model=config)
    vectors = ppmi_embeddings(split.train, config.embedding_dim or 64, runtime=runtime)
    return fit_session_model(
        split.train,
        config,
        item_embeddings=vectors,
        runtime=runtime,
        on_epoch=child.on_epoch,
        validate=lambda model: validation_metrics(model, split),
        checkpoint=cache_path("checkpoints", key),
    )


@cache
def exit_with_parent() -> None:
    """In a worker process: exit when the parent exits, and ignore Ctrl-C.

    A worker of a killed parent would run its remaining trials and then wait forever. Exiting is
    always safe, since the next sweep resumes from the checkpoint. Elsewhere this does nothing.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        # Dask workers run tasks outside of the main thread, the only one that may set signals.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_exit_after, args=[parent], daemon=True).start()


def _exit_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _compare(trials: dict[str, Trial], cached: set[str], run: tracking.Run) -> None:
    """Record and print one table of all trials, the best first."""
    rows = []
    for key, trial in trials.items():
        found = tracking.find_by_inputs(key)
        metrics = found.metrics if found else {}
        status = "failed" if found is None else "cached" if key in cached else "completed"
        shown = {name: metrics.get(name) for name in SHOWN}
        rows.append({"trial": trial.name, **shown, "status": status})
    table = results_frame(rows, by=SHOWN[0])
    run.log_table(table, "trials")
    create_table_artifact(key="sweep", table=to_records(table), description=f"Run: {run_link(run)}")
    print_table(table.reset_index(), "Trials, validation targets, whole catalogue ranked")


if __name__ == "__main__":
    main(["sweep", *sys.argv[1:]])
