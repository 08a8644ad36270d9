"""Co-occurrence counts and item embeddings."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.cache import cache_key, cache_path, cache_tags, is_valid, run_cached, source_hash
from flows.orchestration import create_markdown, markdown_list, pipeline_flow, progress
from flows.settings import Settings
from flows.tasks.data import resolve_source
from recsys import cooccurrence as co
from recsys import embeddings as emb
from recsys.callbacks import EpochCallback, History, compose
from recsys.data import Interactions, Split, load_interactions, save_interactions
from recsys.reporting import item_map_figure, item_map_page, loss_curve
from recsys.storage import verify_manifest
from recsys.tracking import Run

MAX_MAP_ITEMS = 500
"""Items on the interactive map: one or two seconds of t-SNE."""

COUNTS, INTERACTIONS = "counts", "interactions"
"""The two folders of a cached result: the counts, and the interactions that were counted."""


def count(
    split: Split, config: co.CooccurrenceConfig, run: Run, earlier: str | None = None
) -> co.Cooccurrence:
    """Count the co-occurrences in the training data, or load them from the cache.

    Earlier counts, given by their key, are updated if they are still valid.
    """
    key = _counts_key(split.train.digest, config)
    folder = cache_path("counts", key)
    cached = run_cached(
        "count co-occurrence",
        lambda: _count(folder, split.train, config, earlier),
        folder / COUNTS,
        folder / INTERACTIONS,
    )
    run.log_params({"counts": key})
    return _load_counts(folder, config, run, cached)


def _counts_key(interactions: str, config: co.CooccurrenceConfig) -> str:
    return cache_key(data=interactions, cooccurrence=config, source=source_hash())


def _count(
    folder: Path, train: Interactions, config: co.CooccurrenceConfig, earlier: str | None
) -> None:
    if earlier and _can_update(earlier, config):
        get_run_logger().info("Updating earlier counts; only changed users are counted.")
        before = cache_path("counts", earlier)
        counts = co.open_blocks(before / COUNTS).load()
        counts = co.update_cooccurrence(counts, load_interactions(before / INTERACTIONS), train)
        co.save_cooccurrence(counts, folder / COUNTS)
    else:
        target = folder / COUNTS
        co.count_cooccurrence(train, config.min_rating, window=config.window, folder=target)
    save_interactions(train, folder / INTERACTIONS)


def _can_update(earlier: str, config: co.CooccurrenceConfig) -> bool:
    """Whether earlier counts are valid and were made by the same code and settings."""
    folder = cache_path("counts", earlier)
    is_decayed = config.window is not None and config.window.is_decayed
    if is_decayed or not is_valid(folder / COUNTS, folder / INTERACTIONS):
        return False
    return earlier == _counts_key(verify_manifest(folder / INTERACTIONS)["digest"], config)


@task(cache_policy=NO_CACHE, task_run_name="load counts")
def _load_counts(
    folder: Path, config: co.CooccurrenceConfig, run: Run, cached: bool
) -> co.Cooccurrence:
    with run.child("cooccurrence") as child:
        child.log_config(cooccurrence=config)
        if cached:
            child.set_tags(cache_tags(folder))
        counts = co.open_blocks(folder / COUNTS).load()
        child.log_metrics(counts.summary())
    return counts


def embed(
    counts: co.Cooccurrence,
    split: Split,
    settings: Settings,
    run: Run,
    start: emb.ItemEmbeddings | None = None,
) -> emb.ItemEmbeddings:
    """Fit the embeddings, or load them from the cache; draw their loss and the item map."""
    runtime = settings.runtime
    key = cache_key(
        counts=_counts_key(split.train.digest, settings.cooccurrence),
        embeddings=settings.embeddings,
        start=None if start is None else start.digest,
        seed=runtime.seed,
        precision=runtime.torch_precision(),
        device=runtime.torch_device().type,
        source=source_hash(),
    )
    folder = cache_path("embeddings", key)
    with run.child("embeddings") as child:
        child.log_config(embeddings=settings.embeddings, runtime=runtime)
        cached = run_cached(
            "fit embeddings",
            lambda: _embed(folder, counts, settings, start, child.on_epoch),
            folder,
        )
        embeddings, history = emb.load_embeddings(folder, counts.items)
        if cached:
            child.set_tags(cache_tags(folder))
            history.replay(child.on_epoch)
        losses = history.series("relative_loss")
        child.log_figure(loss_curve(losses, "Embeddings", "loss / Σ X²"), "loss")
        item_map = item_map_figure(split.train, embeddings, seed=runtime.seed)
        run.log_figure(item_map, "map")
        run.log_html(item_map_page(split.train, embeddings, MAX_MAP_ITEMS, runtime.seed), "map")
    return embeddings


def _embed(
    folder: Path,
    counts: co.Cooccurrence,
    settings: Settings,
    start: emb.ItemEmbeddings | None,
    record: EpochCallback,
) -> None:
    history, config = History(), settings.embeddings
    with progress("embeddings", config.epochs, "relative_loss") as show:
        on_epoch = compose(history, record, show)
        fitted = emb.fit_embeddings(
            counts, config, start=start, runtime=settings.runtime, on_epoch=on_epoch
        )
    emb.save_embeddings(fitted, history, folder)


@pipeline_flow("source", "cooccurrence", "parallel", "cluster", "memory_limit", "output_dir")
def count_distributed(settings: Settings) -> str:
    """Count co-occurrences on a Dask cluster; returns the folder of row blocks.

    The source is a Parquet file, or a folder of them, that every worker sees under this path.
    """
    from distributed import Client, LocalCluster

    from recsys.cooccurrence.distributed import count_on_cluster

    source, config = resolve_source(settings.source), settings.cooccurrence
    folder = settings.output_dir or Path("data/counts")
    with ExitStack() as stack:
        local = {"n_workers": settings.parallel, "threads_per_worker": 1, "dashboard_address": None}
        cluster = settings.cluster or stack.enter_context(LocalCluster(**local))
        show = stack.enter_context(progress("co-occurrence", 100, ""))
        blocks = count_on_cluster(
            Path(source),
            folder,
            stack.enter_context(Client(cluster)),
            config.min_rating,
            window=config.window,
            memory_limit=settings.memory_limit,
            on_block=lambda done, total: show(100 * done // total, {}),
        )
    stats = {"items": blocks.n_items, "users": blocks.n_users, "entries": blocks.n_entries}
    create_markdown("counts", f"Counts in {folder}", markdown_list(stats))
    return str(folder)
