"""Counts, embeddings and session model: computed, or cached, and recorded in MLflow."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.best_effort import run_limited
from flows.cache import CACHE_DIR, cache_key, cache_path, find_fault, run_cached, source_hash
from flows.orchestration import (
    TRAINING,
    alongside,
    progress,
)
from flows.settings import Settings
from flows.tasks.evaluation import (
    Reports,
    evaluate_baselines,
    evaluate_subsets,
    log_reports,
    validation_metrics,
)
from recsys import cooccurrence as co
from recsys import embeddings as emb
from recsys import evaluation as ev
from recsys import tracking
from recsys.callbacks import History, compose
from recsys.cluster import THIS_PROCESS, Workers, open_workers
from recsys.config import Runtime, available_threads
from recsys.data import Interactions, Split, load_interactions, save_interactions
from recsys.recommender.bundle import Bundle, bundle_bytes
from recsys.recommender.scoring import ItemScorer
from recsys.reporting import item_map_figure, item_map_page, loss_curve
from recsys.sessions import (
    SessionModel,
    checkpoint_bytes,
    fit_session_model,
    from_torch,
    training_digest,
)
from recsys.storage import (
    require_space,
    verify_manifest,
)
from recsys.tracking import Run

COUNTS, INTERACTIONS = PARTS = ("counts", "interactions")
"""The two folders of a cached result: the counts, and the interactions that were counted."""

_DRAWING = threading.Lock()  # matplotlib must not be used by several threads at once


@dataclass(frozen=True)
class Champion:
    """The registered model in use."""

    version: str
    bundle: Bundle
    counts: str | None
    """The cache key of its counts."""
    learned: Interactions | None
    """What it was trained on; None if that is unknown."""
    run_id: str | None = None
    """The run that made it; None if that was removed."""
    inputs: str | None = None
    """The hash of that run's inputs; see `input_hash`."""


@dataclass(frozen=True)
class Trained:
    """The results of all stages, from which a bundle is made."""

    split: Split
    counts: co.CooccurrenceBlocks
    embeddings: emb.ItemEmbeddings
    model: SessionModel
    reports: Reports
    baselines: dict[str, Reports] = field(default_factory=dict)


def fit_stages(
    split: Split,
    settings: Settings,
    run: Run,
    champion: Champion | None = None,
    baselines: Sequence[str] = (),
) -> Trained:
    """Count, embed and train the session model, from scratch or starting from the champion.

    While the session model is trained with half of the threads, the others draw the items and fit
    and evaluate the baselines. If each has one thread, the loss of the session model uses two.
    """
    earlier, start = (champion.counts, champion.bundle) if champion else (None, None)
    require_space(bytes_needed(split, settings))
    counting = settings.cooccurrence.resolve(split.train)
    settings = settings.model_copy(update={"cooccurrence": counting})
    n_threads = available_threads(settings.runtime)
    with open_workers(settings.cluster) as workers:
        counts = count(split, settings.cooccurrence, run, earlier, settings.runtime, workers)
        embeddings = embed(counts, split, settings, run, start)
        runtime = settings.runtime.model_copy(update={"threads": max(n_threads // 2, 1)})
        settings = settings.model_copy(update={"runtime": runtime})
        inputs = split, embeddings, settings, run, workers

        def others(check: Callable[[], None]) -> dict[str, Reports]:
            _draw_map(split, embeddings, run, runtime.seed)
            return evaluate_baselines(baselines, *inputs, check)

        with runtime.limit_threads(), alongside(others, in_thread=n_threads > 1) as evaluated:
            loss_threads = 2 if runtime.threads == 1 < n_threads else 1
            model, reports = run_limited(
                train_session_model, *inputs, start, loss_threads, partial(_raise_error, evaluated)
            )
    return Trained(split, counts, embeddings, model, reports, evaluated.result())


def bytes_needed(split: Split, settings: Settings) -> dict[Path, int]:
    """What a training writes at least, by folder; counts and item maps come on top."""
    n_items, dim = split.interactions.n_items, settings.embeddings.dim
    config = settings.session_model.resolve(len(split.train))
    bundle = bundle_bytes(n_items, dim, config)
    return {
        CACHE_DIR: emb.vector_bytes(n_items, dim) + checkpoint_bytes(config, n_items),
        Path(tempfile.gettempdir()): 2 * bundle,  # it is copied into a model there
        tracking.PENDING: bundle,  # or next to it, in the local store
    }


def count(
    split: Split,
    config: co.CooccurrenceConfig,
    run: Run,
    earlier: str | None = None,
    runtime: Runtime = Runtime(),
    workers: Workers = THIS_PROCESS,
) -> co.CooccurrenceBlocks:
    """Count the co-occurrences of the positive interactions, unless they are in the cache.

    Earlier counts, given by their key, are updated if they are still valid.
    """
    config = config.resolve(split.train)
    key = _counts_key(split.positives.digest, config)
    folder = cache_path("counts", key)

    def write() -> None:
        target = folder / COUNTS
        if not (earlier and _update(earlier, split.positives, config, target, runtime)):
            co.count_cooccurrence(
                split.positives,
                config.min_rating,
                window=config.window,
                memory_limit=runtime.memory_limit,
                folder=target,
                runtime=runtime,
                workers=workers,
            )
        save_interactions(split.positives, folder / INTERACTIONS)

    with run.child("cooccurrence") as child:
        child.log_config(cooccurrence=config)
        run_cached("count co-occurrence", folder, write, child, PARTS)
        counts = co.open_blocks(folder / COUNTS, verify=False)  # `run_cached` has verified them
        child.log_metrics(counts.summary())
    run.log_params({"counts": key, "positive_rating": config.min_rating})
    return counts


def _counts_key(interactions: str, config: co.CooccurrenceConfig) -> str:
    return cache_key(data=interactions, cooccurrence=config, source=source_hash())


def _update(
    earlier: str,
    positives: Interactions,
    config: co.CooccurrenceConfig,
    target: Path,
    runtime: Runtime,
) -> bool:
    """Write updated earlier counts; False if they are invalid or of other code or settings."""
    folder = cache_path("counts", earlier)
    if find_fault(folder, PARTS):
        return False
    if earlier != _counts_key(verify_manifest(folder / INTERACTIONS)["digest"], config):
        return False
    counts = co.open_blocks(folder / COUNTS, verify=False)
    if counts.weights is not None or positives.weight is not None:
        return False
    get_run_logger().info("Updating earlier counts; only changed users are counted.")
    old = load_interactions(folder / INTERACTIONS)
    co.update_cooccurrence(counts, old, positives, folder=target, runtime=runtime)
    return True


def embed(
    counts: co.CooccurrenceBlocks,
    split: Split,
    settings: Settings,
    run: Run,
    champion: Bundle | None = None,
) -> emb.ItemEmbeddings:
    """Fit the embeddings, or load them from the cache, and draw their loss."""
    runtime, config = settings.runtime, settings.embeddings
    start = champion.embeddings if champion else None
    folder = cache_path("embeddings", _embeddings_key(split, settings, champion))
    with run.child("embeddings") as child:
        child.log_config(embeddings=config, runtime=runtime)

        def write() -> None:
            history = History()
            with progress("embeddings", config.epochs, "relative_loss") as show:
                on_epoch = compose(history, child.on_epoch, show)
                fitted = emb.fit_embeddings(
                    counts, config, start=start, runtime=runtime, on_epoch=on_epoch
                )
            emb.save_embeddings(fitted, history, folder)

        cached = run_cached("fit embeddings", folder, write, child)
        embeddings, history = emb.load_embeddings(folder, counts.items)
        if cached:
            history.replay(child.on_epoch)
        losses = history.series("relative_loss")
        child.log_figure(loss_curve(losses, "Embeddings", "loss / Σ X²"), "loss")
    return embeddings


def _embeddings_key(split: Split, settings: Settings, champion: Bundle | None) -> str:
    runtime = settings.runtime
    return cache_key(
        counts=_counts_key(split.positives.digest, settings.cooccurrence),
        embeddings=settings.embeddings,
        start=champion and champion.embeddings.digest,
        seed=runtime.seed,
        precision=runtime.torch_precision(),
        device=runtime.torch_device().type,
        source=source_hash(),
    )


def _raise_error(future: Future[Any]) -> None:
    """Raise the error of some work that has failed."""
    if future.done() and (error := future.exception()):
        raise error


def _draw_map(split: Split, embeddings: emb.ItemEmbeddings, run: Run, seed: int) -> None:
    """Draw the most popular items."""
    with _DRAWING:
        run.log_figure(item_map_figure(split.train, embeddings, seed=seed), "map")
    # The t-SNE of 500 items takes one or two seconds.
    run.log_html(item_map_page(split.train, embeddings, 500, seed), "map")


@task(cache_policy=NO_CACHE, task_run_name="train session model", tags=[TRAINING])
def train_session_model(
    split: Split,
    embeddings: emb.ItemEmbeddings,
    settings: Settings,
    run: Run,
    workers: Workers = THIS_PROCESS,
    champion: Bundle | None = None,
    loss_threads: int = 1,
    check: Callable[[], None] = lambda: None,
) -> tuple[SessionModel, Reports]:
    """Train and evaluate the session model; its MLflow run is named after the cell.

    An interrupted training of the same data, settings and code resumes after its latest epoch.
    `check` is called after each epoch and may raise an error to stop.
    """
    runtime, config = settings.runtime, settings.session_model.resolve(len(split.train))
    name, history = config.cell, History()
    start = champion.session_model if champion else None
    with run.child(name) as child, progress(name, config.epochs or 1, ev.PRIMARY_METRIC) as show:
        child.log_config(session_model=config, runtime=runtime)
        run.log_main_settings(session_model=config)  # with what depends on the data
        vectors, vectors_key = embeddings.vectors, _embeddings_key(split, settings, champion)
        if config.item_embedding_init == "ppmi" and start is None:
            dim = config.embedding_dim or embeddings.dim
            get_run_logger().info("Computing the initial item vectors of the session model.")
            vectors = emb.ppmi_embeddings(split.train, dim, runtime=runtime)
            vectors_key = cache_key(ppmi=dim)  # of the data and seed of the training
        # Not the bits of the vectors, which depend on the number of threads.
        inputs: Any = {"embeddings_key": vectors_key, "start": start, "runtime": runtime}
        key = cache_key(
            training=training_digest(split.train, config, **inputs),
            targets=split.fingerprint("validation"),  # which select the best epoch
            source=source_hash(),
        )
        checkpoint = cache_path("checkpoints", key)
        child.tag_cache(checkpoint)
        model = fit_session_model(
            split.train,
            config,
            item_embeddings=vectors,
            **inputs,
            notify=get_run_logger().info,
            on_epoch=compose(history, child.on_epoch, show, lambda _epoch, _metrics: check()),
            validate=lambda model: validation_metrics(model, split, config.validation_users),
            checkpoint=checkpoint,
            loss_threads=loss_threads,
        )
        losses = history.series("train_loss")
        with _DRAWING:
            figure = loss_curve(losses, name.upper(), "cross-entropy per interaction")
            for recorder in (run, child):
                recorder.log_figure(figure, "loss")
        # What is measured is what the recommender will answer.
        served = ItemScorer(embeddings, from_torch(model))
        reports = evaluate_subsets(served, split, embeddings, workers)
        log_reports(reports, split, child)
        # The parent run has them too: MLflow compares parent runs, and shows what is logged first
        # at the top.
        run.log_reports(reports)
        history.replay(run.on_epoch)
    return model, reports
