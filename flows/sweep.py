"""Compare settings: every combination is trained once, in parallel, and evaluated alike."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.best_effort import try_prefect, try_print
from flows.cache import cache_key, cache_path, discard, find_fault, source_hash
from flows.cli import main
from flows.orchestration import TRAINING, pipeline_flow, run_link, training_lock, training_run
from flows.settings import Settings, TrialConfig
from flows.tasks.data import read, resolve_source
from flows.tasks.evaluation import validation_metrics
from flows.tasks.pending import send_if_pending
from recsys import tracking
from recsys.baselines import MeanEmbeddingConfig, fit_mean_embedding
from recsys.cluster import connect
from recsys.console import print_table, results_frame, to_records
from recsys.cooccurrence import count_cooccurrence
from recsys.data import Split, load_interactions, save_interactions
from recsys.embeddings import EmbeddingConfig, fit_embeddings, ppmi_embeddings
from recsys.evaluation import PRIMARY_METRIC, Scorer, evaluate
from recsys.sessions import fit_session_model
from recsys.storage import atomic_folder, read_json, write_json, write_manifest

_METRICS = "metrics.json"

SHOWN = (f"validation_{PRIMARY_METRIC}", "validation_hit_rate_at_10", "loss_ratio", "seconds")


@pipeline_flow(
    *("source", "data", "cooccurrence", "search", "runtime"),
    *("cluster", "experiment", "model_name"),
)
def sweep(settings: Settings) -> str:
    """Run every trial of a search space; returns the id of the MLflow run.

    Trials that a sweep has completed on the same data are not run again, so that an interrupted
    sweep resumes. If MLflow does not answer, the runs are kept in `mlflow/pending` for the flow
    `sync`.
    """
    source, settings = resolve_source(settings)
    trials = settings.search.trials()
    recorded = ("search", "cooccurrence", "runtime")
    with training_lock(), training_run("sweep", source, settings, *recorded) as run:
        digest = save_inputs(read(source, settings.data, run), run)
        keys = {name: trial_key(config, digest, settings) for name, config in trials.items()}
        cached = {name for name, key in keys.items() if find_result(key) is not None}
        missing = {name: key for name, key in keys.items() if name not in cached}
        get_run_logger().info("%d of %d trials to run.", len(missing), len(trials))
        with _task_runner(settings.cluster) as runner:
            run_trials.with_options(task_runner=runner)(missing, digest, settings, run.reference)
        _compare(keys, cached, run)
    return send_if_pending(run).run_id


@task(cache_policy=NO_CACHE, task_run_name="save inputs")
def save_inputs(split: Split, run: tracking.Run) -> str:
    """Store the interactions where every trial can read them; returns their digest."""
    log = split.interactions if split.log is None else split.log
    folder = cache_path("interactions", log.digest)
    if find_fault(folder):
        discard(folder)
        save_interactions(log, folder)
    run.log_params({"interactions": log.digest})
    return log.digest


def trial_key(config: TrialConfig, digest: str, settings: Settings) -> str:
    """A hash of everything that the result of a trial depends on."""
    return cache_key(
        kind=type(config).__name__,
        trial=config,
        interactions=digest,
        data=settings.data,
        cooccurrence=settings.cooccurrence,
        seed=settings.runtime.seed,
        precision=settings.runtime.torch_precision(),
        source=source_hash(),
    )


def find_result(key: str) -> dict[str, float] | None:
    """The metrics of a trial that was completed; None if there are none."""
    folder = cache_path("reports", key)
    return None if find_fault(folder) else read_json(folder / _METRICS)


def save_result(key: str, metrics: dict[str, float]) -> None:
    """Keep the metrics of a trial for this and later sweeps."""
    discard(folder := cache_path("reports", key))
    with atomic_folder(folder) as tmp_path:
        write_json(tmp_path / _METRICS, metrics)
        write_manifest(tmp_path)


@contextmanager
def _task_runner(cluster: str | None) -> Iterator[TaskRunner[Any]]:
    """One trial at a time in this process, or one on each worker of a cluster."""
    if cluster is None:
        yield ThreadPoolTaskRunner(max_workers=1)
        return
    with connect(cluster) as client:
        from prefect_dask.task_runners import DaskTaskRunner

        yield DaskTaskRunner(address=client.scheduler_info()["address"])


@flow(name="trials")
def run_trials(
    keys: dict[str, str], digest: str, settings: Settings, parent: tracking.RunReference
) -> None:
    """Run trials, given their keys by name; a failed trial does not stop the others."""
    done = threading.Semaphore(0)
    futures = [run_trial.submit(name, keys[name], digest, settings, parent) for name in keys]
    for future in futures:
        future.add_done_callback(lambda _future: done.release())
    for _ in futures:
        while not done.acquire(timeout=1.0):  # Ctrl-C is only noticed between such waits.
            pass


@task(cache_policy=NO_CACHE, task_run_name="{name}", tags=[TRAINING])
def run_trial(
    name: str, key: str, digest: str, settings: Settings, parent: tracking.RunReference
) -> None:
    """Train with the settings of a trial and evaluate on the validation targets."""
    config, data = settings.search.trials()[name], settings.data
    interactions = load_interactions(cache_path("interactions", digest))
    split = data.split.apply(interactions).with_filters(data.filters.fingerprint())
    with tracking.join_run(parent).child(name) as child:
        child.tag_cache(cache_path("reports", key))
        child.log_config(runtime=settings.runtime)
        began = time.perf_counter()
        model, metrics = _fit(split, key, config, settings, child)
        metrics["seconds"] = time.perf_counter() - began
        report = evaluate(model, split, "validation")
        validation = {f"validation_{name}": value for name, value in report.metrics.items()}
        save_result(key, metrics | validation)
        child.log_metrics(metrics)
        child.log_reports({"validation": report})


def _fit(
    split: Split, key: str, config: TrialConfig, settings: Settings, child: tracking.Run
) -> tuple[Scorer, dict[str, float]]:
    """Embeddings, evaluated by the mean vector of a user's items, or a session model.

    Returns also the loss ratio, if it is known.
    """
    runtime, on_epoch = settings.runtime, child.on_epoch
    if isinstance(config, EmbeddingConfig):
        child.log_config(embeddings=config)
        with tempfile.TemporaryDirectory() as folder:
            counts = count_cooccurrence(
                split.positives,
                settings.cooccurrence.min_rating,
                window=settings.cooccurrence.window,
                memory_limit=runtime.memory_limit,
                folder=Path(folder, "counts"),
                runtime=runtime,
            )
            fitted = fit_embeddings(counts, config, runtime=runtime, on_epoch=on_epoch)
        metrics = {} if fitted.loss_ratio is None else {"loss_ratio": fitted.loss_ratio}
        return fit_mean_embedding(fitted.vectors, MeanEmbeddingConfig()), metrics
    config = config.resolve(len(split.train))
    child.log_config(session_model=config)
    vectors = ppmi_embeddings(split.train, config.embedding_dim or 64, runtime=runtime)
    model = fit_session_model(
        split.train,
        config,
        item_embeddings=vectors,
        embeddings_key=key,  # their bits depend on the number of threads
        notify=get_run_logger().info,
        runtime=runtime,
        on_epoch=on_epoch,
        validate=lambda model: validation_metrics(model, split, config.validation_users),
        checkpoint=cache_path("checkpoints", key),
    )
    return model, {}


def _compare(keys: dict[str, str], cached: set[str], run: tracking.Run) -> None:
    """Record and print one table of all trials, the best first."""
    rows = []
    for name, key in keys.items():
        found = find_result(key)
        metrics = found or {}
        status = "failed" if found is None else "cached" if name in cached else "completed"
        rows.append({"trial": name, **{k: metrics.get(k) for k in SHOWN}, "status": status})
    table = results_frame(rows, by=SHOWN[0])
    run.log_table(table, "trials")
    description = f"Run: {run_link(run)}"
    records = to_records(table)
    try_prefect(create_table_artifact, key="sweep", table=records, description=description)
    try_print(
        print_table, table.reset_index(), "Trials, validation targets, whole catalogue ranked"
    )


if __name__ == "__main__":
    main(["sweep", *sys.argv[1:]])
