"""From ratings to counts, and from counts to embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.digests import digest_of, program_digest
from flows.places import counts_folder
from flows.telling import progress
from recsys import plots
from recsys.callbacks import History, combine
from recsys.config import Runtime
from recsys.cooccurrence import (
    Cooccurrence,
    CooccurrenceConfig,
    count_cooccurrence,
    open_blocks,
    save_cooccurrence,
    update_cooccurrence,
)
from recsys.data import Interactions, Split, load_interactions, save_interactions
from recsys.embeddings import EmbeddingConfig, ItemEmbeddings, fit_embeddings
from recsys.errors import BundleError
from recsys.map_page import item_map_page
from recsys.storage import verify_manifest
from recsys.tracking import Run

MAPPED = 500
"""Items on the page with the map: a second or two of t-SNE."""
COUNTS, COUNTED = "counts", "interactions"
"""What lies in a folder of counts: they, and what they were counted from."""


def count(
    split: Split, config: CooccurrenceConfig, run: Run, *, earlier: str | None = None
) -> Cooccurrence:
    """Count how many users liked both of two items, unless that has been done before.

    Args:
        split: counted is what is in train.
        config: what counts as liked.
        run: where to record the counts.
        earlier: the digest of earlier counts, which may be brought up to date instead.
    """
    digest = _digest_of(split.train.digest, config)
    folder = counts_folder(digest)
    # A result whose files are gone is none, whatever Prefect remembers.
    counting = keep_counts.with_options(refresh_cache=not _is_whole(folder))
    found = Path(counting(digest, split.train, config, earlier))
    run.log_params({"counts": digest})
    return read_counts(found / COUNTS, config, run)


def _digest_of(data: str, config: CooccurrenceConfig) -> str:
    return digest_of(data=data, counting=config, program=program_digest())


def _cache_key(_context: Any, parameters: dict[str, Any]) -> str:
    return f"counts-{parameters['digest']}"


@task(
    task_run_name="count",
    cache_key_fn=_cache_key,
    persist_result=True,
    result_serializer="json",
)
def keep_counts(
    digest: str, train: Interactions, config: CooccurrenceConfig, earlier: str | None
) -> str:
    """Count and keep; what Prefect stores is the name of the folder alone."""
    folder = counts_folder(digest)
    if earlier and _can_be_updated(earlier, config):
        get_run_logger().info("bringing counts up to date: only who changed is counted")
        before = counts_folder(earlier)
        counts = open_blocks(before / COUNTS).load()
        counts = update_cooccurrence(counts, load_interactions(before / COUNTED), train)
        save_cooccurrence(counts, folder / COUNTS)
    else:
        target = folder / COUNTS
        count_cooccurrence(train, config.min_rating, window=config.window, folder=target)
    save_interactions(train, folder / COUNTED)
    return str(folder)


@task(cache_policy=NO_CACHE, task_run_name="read counts")
def read_counts(folder: Path, config: CooccurrenceConfig, run: Run) -> Cooccurrence:
    """Read counts, and record how many there are."""
    with run.child("cooccurrence") as stage:
        stage.log_config(counting=config)
        counts = open_blocks(folder).load()
        stage.log_metrics(counts.summary())
    return counts


def _can_be_updated(earlier: str, config: CooccurrenceConfig) -> bool:
    """Whether earlier counts are still there, and are what this program would count today."""
    folder = counts_folder(earlier)
    if not _is_whole(folder) or (config.window and config.window.is_decayed):
        return False
    counted = verify_manifest(folder / COUNTED)["digest"]
    return earlier == _digest_of(counted, config)


def _is_whole(folder: Path) -> bool:
    try:
        for part in (COUNTS, COUNTED):
            verify_manifest(folder / part)
    except BundleError:
        return False
    return True


@task(cache_policy=NO_CACHE, task_run_name="embed")
def embed(
    counts: Cooccurrence,
    split: Split,
    config: EmbeddingConfig,
    runtime: Runtime,
    run: Run,
    start: ItemEmbeddings | None = None,
) -> ItemEmbeddings:
    """Fit the embeddings to the counts; draw the loss and the map."""
    history = History()
    with (
        run.child("embeddings") as stage,
        progress("embeddings", config.epochs, "relative_loss") as advance,
    ):
        stage.log_config(embedding=config, runtime=runtime)
        listen = combine(history, stage.on_epoch, advance)
        embeddings = fit_embeddings(counts, config, start=start, runtime=runtime, on_epoch=listen)
        losses = history.series("relative_loss")
        stage.log_figure(plots.loss_curve(losses, "Embeddings", "loss / Σ X²"), "loss")
        picture = plots.popular_items_map(split.train, embeddings, seed=runtime.seed)
        run.log_figure(picture, "map")
        run.log_page(item_map_page(split.train, embeddings, MAPPED, runtime.seed), "map")
    return embeddings
