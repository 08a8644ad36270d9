"""The whole line, once: ratings in; a compared, registered, usable recommender out."""

from __future__ import annotations

import tempfile
from logging import INFO, WARNING
from pathlib import Path
from typing import Annotated, Literal

import typer
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.settings import read_settings
from flows.terminal import shield_server, told_plainly
from recsys import plots, tracking
from recsys.baselines import fit_baseline, usual_baselines
from recsys.bundle import Bundle, make_bundle, save_bundle
from recsys.callbacks import History, combine
from recsys.config import Runtime
from recsys.console import print_table, progress_bar
from recsys.cooccurrence import Cooccurrence, CooccurrenceConfig, count_cooccurrence
from recsys.data import ReadingConfig, ReadReport, Split, read_ratings
from recsys.data.public import default_source
from recsys.embeddings import (
    EmbeddingConfig,
    ItemEmbeddings,
    fit_embeddings,
    windowed_vectors,
)
from recsys.errors import BundleError, TrackingError
from recsys.evaluation import (
    METRIC,
    Report,
    Scorer,
    by_segment,
    compare_with,
    comparison_table,
    evaluate,
    promote_if_better,
    segments_of,
)
from recsys.loading import load_recommender
from recsys.map_page import item_map_page
from recsys.sessions import SessionConfig, SessionModel, fit_session_model
from recsys.tracking import Run
from recsys.vocabulary import Vocabulary

Reports = dict[Literal["validation", "test"], Report]

LSTM = "lstm"
MAPPED = 500
"""Items on the page with the map: a second or two of t-SNE."""
DATA = Path("data")


@task(cache_policy=NO_CACHE, task_run_name="find data")
def find_data(data: str | None) -> str:
    """The data that was named, or MovieLens, or a sample."""
    return data or str(default_source(DATA, notify=get_run_logger().info))


@task(cache_policy=NO_CACHE, task_run_name="read")
def read(source: str, config: ReadingConfig, run: Run) -> Split:
    """Read, check and filter the ratings; hold back later watches to judge models by."""
    log = get_run_logger()
    with run.child("data") as stage:
        stage.log_config(reading=config)

        def account(report: ReadReport) -> None:
            log.log(WARNING if report.rows != report.kept else INFO, "%s", report)
            stage.log_metrics(report.metrics())
            stage.log_table(report.table(), "checks")

        ratings = read_ratings(
            source,
            columns=config.columns,
            layout=config.layout,
            checks=config.checks,
            rejected=config.rejected,
            on_report=account,
        )
        ratings, reports = config.filters.apply(ratings)
        for report in reports:
            log.info("%s", report)
            stage.log_metrics(report.metrics())
        for recorder in (run, stage):
            recorder.log_dataset(ratings, Path(source).name, source)
        split = config.split.apply(ratings).filtered_by(config.filters.facts())
        stage.log_params(split.fingerprint("validation"))
    return split


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


@task(cache_policy=NO_CACHE, task_run_name="learn sessions")
def learn_sessions(
    split: Split,
    embeddings: ItemEmbeddings,
    config: SessionConfig,
    runtime: Runtime,
    run: Run,
) -> tuple[SessionModel, Reports]:
    """Train the LSTM, watching its validation metrics, and evaluate it."""
    history = History()
    config = config.for_data(len(split.train))
    with run.child(LSTM) as stage, progress_bar(LSTM, config.epochs, "train_loss") as advance:
        stage.log_config(session=config, runtime=runtime)
        vectors = embeddings.vectors
        if config.initial_vectors == "windowed":
            dim = config.embedding_dim or embeddings.dim
            vectors = windowed_vectors(split.train, dim, runtime=runtime)
        model = fit_session_model(
            split.train,
            config,
            item_vectors=vectors,
            runtime=runtime,
            on_epoch=combine(history, stage.on_epoch, advance),
            validate=lambda model: evaluate(model, split, "validation").metrics,
        )
        losses = history.series("train_loss")
        stage.log_figure(plots.loss_curve(losses, "LSTM", "cross-entropy per watch"), "loss")
        return model, judge(model, split, stage)


@task(cache_policy=NO_CACHE, task_run_name="{name}")
def try_baseline(
    name: str, split: Split, embeddings: ItemEmbeddings, runtime: Runtime, run: Run
) -> Reports:
    """Fit a baseline with the settings that do best on validation, and evaluate it."""
    with run.child(name) as stage:
        fitted = fit_baseline(
            name,
            split.train,
            item_vectors=embeddings.vectors,
            runtime=runtime,
            validate=lambda model: evaluate(model, split, "validation").metrics[METRIC],
        )
        stage.log_config(baseline=fitted.config, runtime=runtime)
        return judge(fitted.model, split, stage)


def judge(model: Scorer, split: Split, stage: Run) -> Reports:
    """Evaluate a model on both targets and record what came out."""
    reports: Reports = {
        "validation": evaluate(model, split, "validation"),
        "test": evaluate(model, split, "test"),
    }
    stage.log_reports(reports)
    stage.log_table(by_segment(reports["test"].ranks, segments_of(split, "test")), "segments")
    return reports


@task(cache_policy=NO_CACHE, task_run_name="compare")
def compare(by_model: dict[str, Reports], run: Run) -> None:
    """Lay the test results side by side; the parent run carries those of the LSTM."""
    table = comparison_table({name: reports["test"] for name, reports in by_model.items()})
    run.log_table(table, "comparison")
    ranks = {name: reports["test"].per_user() for name, reports in by_model.items()}
    run.log_table(compare_with(LSTM, ranks), "differences")
    run.log_reports(by_model[LSTM])
    print_table(table.reset_index(), "Next watch, test targets, whole catalogue ranked")


@task(cache_policy=NO_CACHE, task_run_name="save")
def save(bundle: Bundle, run: Run) -> None:
    """Store the bundle with the run."""
    with tempfile.TemporaryDirectory() as folder:
        run.log_folder(save_bundle(bundle, Path(folder) / tracking.BUNDLE), tracking.BUNDLE)


@task(cache_policy=NO_CACHE, task_run_name="register")
def register(report: Report, split: Split, model_name: str, run: Run) -> str:
    """Register the bundle; make it champion if there is none or it surely beats the present one."""
    verdict = promote_if_better(report, present_champion(model_name, run), split)
    version = tracking.register(run, model_name, str(verdict))
    if verdict.promoted:
        tracking.promote(run, model_name, version)
    get_run_logger().info("%s version %s: %s", model_name, version, verdict)
    return version


def present_champion(model_name: str, run: Run) -> tuple[Scorer, Vocabulary] | None:
    """The model in use and the items that it knows; None where there is none to be read."""
    version = tracking.champion_version(run, model_name)
    if version is None:
        return None
    try:
        bundle = load_recommender(f"models:/{model_name}/{version}").bundle
    except (BundleError, TrackingError) as error:
        get_run_logger().warning("the champion, version %s, cannot be read: %s", version, error)
        return None
    return bundle.session_model, bundle.items


@flow(name="train")
def train(
    data: str | None = None,
    reading: ReadingConfig = ReadingConfig(),
    counting: CooccurrenceConfig = CooccurrenceConfig(),
    embedding: EmbeddingConfig = EmbeddingConfig(),
    session: SessionConfig = SessionConfig(),
    runtime: Runtime = Runtime(),
    experiment: str = "recsys",
    model_name: str = "recsys",
) -> str:
    """Train, evaluate and register a recommender; gives back the id of the MLflow run.

    Args:
        data: a folder or file of ratings; None takes MovieLens latest-small, downloaded
            if need be, or a synthetic sample where there is no network.
        reading: how the ratings are read, checked, filtered and split.
        counting: what counts as liked.
        embedding: the co-occurrence embeddings.
        session: the LSTM.
        runtime: device, precision, seed and threads.
        experiment: where in MLflow to record the run.
        model_name: the registered model; one name per catalogue.
    """
    source = find_data(data)
    with tracking.start_run(f"train {Path(source).name}", experiment) as run:
        run.log_config(reading=reading, counting=counting)
        run.log_config(embedding=embedding, session=session, runtime=runtime)
        split = read(source, reading, run)
        counts = count(split, counting, run)
        embeddings = embed(counts, split, embedding, runtime, run)
        model, reports = learn_sessions(split, embeddings, session, runtime, run)
        by_model = {LSTM: reports}
        by_model |= {
            name: try_baseline(name, split, embeddings, runtime, run)
            for name in usual_baselines(split.train)
        }
        compare(by_model, run)
        bundle = make_bundle(
            split.interactions.catalogue, embeddings, model, {"counting": counting}, reports
        )
        save(bundle, run)
        register(reports["validation"], split, model_name, run)
    return run.run_id


def main(
    data: Annotated[str | None, typer.Option(help="A folder or file of ratings.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML with tables [reading], [counting], [embedding], [session], [runtime]."
        ),
    ] = None,
) -> None:
    """Train, evaluate and register a recommender."""
    with told_plainly():
        settings = read_settings(config)
        shield_server()
        train(data=data, **dict(settings))


if __name__ == "__main__":
    typer.run(main)
