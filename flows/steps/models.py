"""The session model and the baselines, trained and judged alike."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.digests import digest_of, program_digest
from flows.places import checkpoint_folder
from flows.robust import TRAINING
from flows.telling import link_to, progress
from recsys import plots
from recsys.baselines import fit_baseline
from recsys.callbacks import History, combine
from recsys.config import Runtime
from recsys.console import print_table, rows_of
from recsys.data import Split
from recsys.embeddings import ItemEmbeddings, windowed_vectors
from recsys.evaluation import (
    METRIC,
    Report,
    Scorer,
    by_segment,
    compare_with,
    comparison_table,
    evaluate,
    segments_of,
)
from recsys.sessions import SessionConfig, SessionModel, fit_session_model, training_digest
from recsys.tracking import Run

Reports = dict[Literal["validation", "test"], Report]

LSTM = "lstm"


@task(cache_policy=NO_CACHE, task_run_name="learn sessions", tags=[TRAINING])
def learn_sessions(
    split: Split,
    embeddings: ItemEmbeddings,
    config: SessionConfig,
    runtime: Runtime,
    run: Run,
    start: SessionModel | None = None,
) -> tuple[SessionModel, Reports]:
    """Train the LSTM, watching its validation metrics, and evaluate it.

    A training of the same data, settings and program that was broken off goes on after its latest
    epoch; one that came to its end is not done again.
    """
    history = History()
    config = config.for_data(len(split.train))
    with run.child(LSTM) as stage, progress(LSTM, config.epochs, "train_loss") as advance:
        stage.log_config(session=config, runtime=runtime)
        vectors = embeddings.vectors
        if config.initial_vectors == "windowed" and start is None:
            dim = config.embedding_dim or embeddings.dim
            vectors = windowed_vectors(split.train, dim, runtime=runtime)
        digest = training_digest(
            split.train, config, item_vectors=vectors, start=start, runtime=runtime
        )
        model = fit_session_model(
            split.train,
            config,
            item_vectors=vectors,
            start=start,
            runtime=runtime,
            # In the run around it, too: there the UI lays the curves of several runs together.
            on_epoch=combine(history, stage.on_epoch, run.on_epoch, advance),
            validate=lambda model: evaluate(model, split, "validation").metrics,
            checkpoint=_checkpoint(split, digest),
        )
        losses = history.series("train_loss")
        curve = plots.loss_curve(losses, "LSTM", "cross-entropy per watch")
        for recorder in (run, stage):
            recorder.log_figure(curve, "loss")
        return model, judge(model, split, embeddings, stage)


def _checkpoint(split: Split, training: str) -> Path:
    """Where the state of a training is kept; the validation targets choose its best epoch."""
    protocol = split.fingerprint("validation")
    return checkpoint_folder(
        digest_of(training=training, protocol=protocol, program=program_digest())
    )


@task(cache_policy=NO_CACHE, task_run_name="{name}", tags=[TRAINING])
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
        return judge(fitted.model, split, embeddings, stage)


def judge(model: Scorer, split: Split, embeddings: ItemEmbeddings, stage: Run) -> Reports:
    """Evaluate a model on both targets and record what came out."""
    vectors = embeddings.vectors
    reports: Reports = {
        "validation": evaluate(model, split, "validation", item_vectors=vectors),
        "test": evaluate(model, split, "test", item_vectors=vectors),
    }
    stage.log_reports(reports)
    stage.log_table(by_segment(reports["test"].ranks, segments_of(split, "test")), "segments")
    return reports


@task(cache_policy=NO_CACHE, task_run_name="compare")
def compare(by_model: dict[str, Reports], run: Run) -> None:
    """Lay the test results side by side; the parent run carries those of the LSTM."""
    table = comparison_table({name: reports["test"] for name, reports in by_model.items()})
    run.log_comparison(table, LSTM)
    ranks = {name: reports["test"].per_user() for name, reports in by_model.items()}
    run.log_table(compare_with(LSTM, ranks), "differences")
    run.log_reports(by_model[LSTM])
    create_table_artifact(
        key="models",
        table=rows_of(table),
        description=f"Next watch, test targets, whole catalogue ranked. Run: {link_to(run)}",
    )
    print_table(table.reset_index(), "Next watch, test targets, whole catalogue ranked")
