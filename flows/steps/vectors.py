"""From ratings to counts, and from counts to embeddings."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.digests import digest_of, program_digest
from flows.kept import are_whole, fill, kept_task, origin
from flows.places import counts_folder, embeddings_folder
from flows.telling import progress
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
from recsys.reporting import plots
from recsys.reporting.map_page import item_map_page
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
    digest = counts_digest(split.train.digest, config)
    folder = counts_folder(digest)
    parts = folder / COUNTS, folder / COUNTED
    taken = fill(parts, keep_counts, digest, split.train, config, earlier)
    run.log_params({"counts": digest})
    return read_counts(folder, config, run, taken)


def counts_digest(data: str, config: CooccurrenceConfig) -> str:
    """What names the counts of some interactions, told by their digest."""
    return digest_of(data=data, counting=config, program=program_digest())


@kept_task("counts", "count")
def keep_counts(
    digest: str, train: Interactions, config: CooccurrenceConfig, earlier: str | None
) -> str:
    """Count, and keep what was counted beside the counts."""
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
def read_counts(folder: Path, config: CooccurrenceConfig, run: Run, taken: bool) -> Cooccurrence:
    """Read counts, and record how many there are, and whether an earlier run counted them."""
    with run.child("cooccurrence") as stage:
        stage.log_config(counting=config)
        if taken:
            stage.set_tags(origin(folder))
        counts = open_blocks(folder / COUNTS).load()
        stage.log_metrics(counts.summary())
    return counts


def _can_be_updated(earlier: str, config: CooccurrenceConfig) -> bool:
    """Whether earlier counts are still there, and are what this program would count today."""
    folder = counts_folder(earlier)
    parts = folder / COUNTS, folder / COUNTED
    if not are_whole(parts) or (config.window and config.window.is_decayed):
        return False
    counted = verify_manifest(folder / COUNTED)["digest"]
    return earlier == counts_digest(counted, config)


def embed(
    counts: Cooccurrence,
    counting: CooccurrenceConfig,
    split: Split,
    config: EmbeddingConfig,
    runtime: Runtime,
    run: Run,
    start: ItemEmbeddings | None = None,
) -> ItemEmbeddings:
    """Fit the embeddings to the counts, unless that has been done; draw the loss and the map.

    Args:
        counts: of the watches in train.
        counting: how they were counted.
        split: what the map's names are from.
        config: of the fit.
        runtime: device, precision, seed and threads.
        run: where to record it.
        start: earlier embeddings to go on from.
    """
    digest = digest_of(
        counts=counts_digest(split.train.digest, counting),
        embedding=config,
        start=None if start is None else start.digest,
        seed=runtime.seed,
        precision=runtime.torch_precision(),
        device=runtime.torch_device().type,
        program=program_digest(),
    )
    folder = embeddings_folder(digest)
    with run.child("embeddings") as stage:
        stage.log_config(embedding=config, runtime=runtime)
        taken = fill(
            (folder,), keep_embeddings, digest, counts, config, runtime, start, stage.on_epoch
        )
        embeddings, history = load_embeddings(folder, counts.items)
        if taken:  # what was told when it was fitted is told again
            stage.set_tags(origin(folder))
            history.replay(stage.on_epoch)
        losses = history.series("relative_loss")
        stage.log_figure(plots.loss_curve(losses, "Embeddings", "loss / Σ X²"), "loss")
        picture = plots.popular_items_map(split.train, embeddings, seed=runtime.seed)
        run.log_figure(picture, "map")
        run.log_page(item_map_page(split.train, embeddings, MAPPED, runtime.seed), "map")
    return embeddings


@kept_task("embeddings", "embed")
def keep_embeddings(
    digest: str,
    counts: Cooccurrence,
    config: EmbeddingConfig,
    runtime: Runtime,
    start: ItemEmbeddings | None,
    listen: EpochCallback,
) -> str:
    """Fit, and keep the vectors with what the fit told."""
    history, folder = History(), embeddings_folder(digest)
    with progress("embeddings", config.epochs, "relative_loss") as advance:
        on_epoch = compose(history, listen, advance)
        fitted = fit_embeddings(counts, config, start=start, runtime=runtime, on_epoch=on_epoch)
    save_embeddings(fitted, history, folder)
    return str(folder)
