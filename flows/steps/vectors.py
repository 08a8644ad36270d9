"""From ratings to counts, and from counts to embeddings."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from recsys import plots
from recsys.callbacks import History, combine
from recsys.config import Runtime
from recsys.console import progress_bar
from recsys.cooccurrence import Cooccurrence, CooccurrenceConfig, count_cooccurrence
from recsys.data import Split
from recsys.embeddings import EmbeddingConfig, ItemEmbeddings, fit_embeddings
from recsys.map_page import item_map_page
from recsys.tracking import Run

MAPPED = 500
"""Items on the page with the map: a second or two of t-SNE."""


@task(cache_policy=NO_CACHE, task_run_name="count")
def count(split: Split, config: CooccurrenceConfig, run: Run) -> Cooccurrence:
    """Count how many users liked both of two items."""
    with run.child("cooccurrence") as stage:
        stage.log_config(counting=config)
        counts = count_cooccurrence(split.train, config.min_rating, window=config.window)
        stage.log_metrics(counts.summary())
    return counts


@task(cache_policy=NO_CACHE, task_run_name="embed")
def embed(
    counts: Cooccurrence, split: Split, config: EmbeddingConfig, runtime: Runtime, run: Run
) -> ItemEmbeddings:
    """Fit the embeddings to the counts; draw the loss and the map."""
    history = History()
    with (
        run.child("embeddings") as stage,
        progress_bar("embeddings", config.epochs, "relative_loss") as advance,
    ):
        stage.log_config(embedding=config, runtime=runtime)
        listen = combine(history, stage.on_epoch, advance)
        embeddings = fit_embeddings(counts, config, runtime=runtime, on_epoch=listen)
        losses = history.series("relative_loss")
        stage.log_figure(plots.loss_curve(losses, "Embeddings", "loss / Σ X²"), "loss")
        picture = plots.popular_items_map(split.train, embeddings, seed=runtime.seed)
        run.log_figure(picture, "map")
        run.log_page(item_map_page(split.train, embeddings, MAPPED, runtime.seed), "map")
    return embeddings
