"""From ratings to counts, and from counts to embeddings."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.artifacts import progress
from flows.cache import are_valid, cached_task, fill, origin
from flows.cache_keys import cache_key, source_hash
from flows.paths import counts_dir, embeddings_dir
from recsys.callbacks import EpochCallback, History, compose
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
from recsys.embeddings import (
    EmbeddingConfig,
    ItemEmbeddings,
    fit_embeddings,
    load_embeddings,
    save_embeddings,
)
from recsys.reporting import item_map_figure, item_map_page, loss_curve
from recsys.storage import verify_manifest
from recsys.tracking import Run

MAX_MAP_ITEMS = 500
"""Items on the page with the map: a second or two of t-SNE."""
COUNTS, INTERACTIONS = "counts", "interactions"
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
    digest = counts_digest(split.train.digest, config)
    folder = counts_dir(digest)
    parts = folder / COUNTS, folder / INTERACTIONS
    taken = fill(parts, cache_counts, digest, split.train, config, earlier)
    run.log_params({"counts": digest})
    return read_counts(folder, config, run, taken)


def counts_digest(data: str, config: CooccurrenceConfig) -> str:
    """What names the counts of some interactions, told by their digest."""
    return cache_key(data=data, cooccurrence=config, program=source_hash())


@cached_task("counts", "count")
def cache_counts(
    digest: str, train: Interactions, config: CooccurrenceConfig, earlier: str | None
) -> str:
    """Count, and keep what was counted beside the counts."""
    folder = counts_dir(digest)
    if earlier and _can_be_updated(earlier, config):
        get_run_logger().info("bringing counts up to date: only who changed is counted")
        before = counts_dir(earlier)
        counts = open_blocks(before / COUNTS).load()
        counts = update_cooccurrence(counts, load_interactions(before / INTERACTIONS), train)
        save_cooccurrence(counts, folder / COUNTS)
    else:
        target = folder / COUNTS
        count_cooccurrence(train, config.min_rating, window=config.window, folder=target)
    save_interactions(train, folder / INTERACTIONS)
    return str(folder)


@task(cache_policy=NO_CACHE, task_run_name="read counts")
def read_counts(folder: Path, config: CooccurrenceConfig, run: Run, taken: bool) -> Cooccurrence:
    """Read counts, and record how many there are, and whether an earlier run counted them."""
    with run.child("cooccurrence") as stage:
        stage.log_config(cooccurrence=config)
        if taken:
            stage.set_tags(origin(folder))
        counts = open_blocks(folder / COUNTS).load()
        stage.log_metrics(counts.summary())
    return counts


def _can_be_updated(earlier: str, config: CooccurrenceConfig) -> bool:
    """Whether earlier counts are still there, and are what this program would count today."""
    folder = counts_dir(earlier)
    parts = folder / COUNTS, folder / INTERACTIONS
    if not are_valid(parts) or (config.window and config.window.is_decayed):
        return False
    counted = verify_manifest(folder / INTERACTIONS)["digest"]
    return earlier == counts_digest(counted, config)


def embed(
    counts: Cooccurrence,
    cooccurrence: CooccurrenceConfig,
    split: Split,
    config: EmbeddingConfig,
    runtime: Runtime,
    run: Run,
    start: ItemEmbeddings | None = None,
) -> ItemEmbeddings:
    """Fit the embeddings to the counts, unless that has been done; draw the loss and the map.

    Args:
        counts: of the watches in train.
        cooccurrence: how they were counted.
        split: what the map's names are from.
        config: of the fit.
        runtime: device, precision, seed and threads.
        run: where to record it.
        start: earlier embeddings to go on from.
    """
    digest = cache_key(
        counts=counts_digest(split.train.digest, cooccurrence),
        embeddings=config,
        start=None if start is None else start.digest,
        seed=runtime.seed,
        precision=runtime.torch_precision(),
        device=runtime.torch_device().type,
        program=source_hash(),
    )
    folder = embeddings_dir(digest)
    with run.child("embeddings") as stage:
        stage.log_config(embeddings=config, runtime=runtime)
        taken = fill(
            (folder,), cache_embeddings, digest, counts, config, runtime, start, stage.on_epoch
        )
        embeddings, history = load_embeddings(folder, counts.items)
        if taken:  # what was told when it was fitted is told again
            stage.set_tags(origin(folder))
            history.replay(stage.on_epoch)
        losses = history.series("relative_loss")
        stage.log_figure(loss_curve(losses, "Embeddings", "loss / Σ X²"), "loss")
        picture = item_map_figure(split.train, embeddings, seed=runtime.seed)
        run.log_figure(picture, "map")
        run.log_html(item_map_page(split.train, embeddings, MAX_MAP_ITEMS, runtime.seed), "map")
    return embeddings


@cached_task("embeddings", "embed")
def cache_embeddings(
    digest: str,
    counts: Cooccurrence,
    config: EmbeddingConfig,
    runtime: Runtime,
    start: ItemEmbeddings | None,
    listen: EpochCallback,
) -> str:
    """Fit, and keep the vectors with what the fit told."""
    history, folder = History(), embeddings_dir(digest)
    with progress("embeddings", config.epochs, "relative_loss") as advance:
        on_epoch = compose(history, listen, advance)
        fitted = fit_embeddings(counts, config, start=start, runtime=runtime, on_epoch=on_epoch)
    save_embeddings(fitted, history, folder)
    return str(folder)
