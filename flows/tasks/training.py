"""The session model and the baselines, trained and judged alike."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.artifacts import progress, run_link
from flows.cache import cached_task, fill, origin
from flows.cache_keys import cache_key, source_hash
from flows.paths import checkpoint_dir, reports_dir
from flows.retries import TRAINING
from recsys.baselines import fit_baseline
from recsys.callbacks import History, compose
from recsys.config import Runtime
from recsys.console import print_table, to_records
from recsys.data import Split, Subset
from recsys.embeddings import ItemEmbeddings, ppmi_embeddings
from recsys.evaluation import (
    PRIMARY_METRIC,
    Report,
    Scorer,
    comparison_table,
    evaluate,
    read_report,
    segment_metrics,
    segment_targets,
    significance_table,
    write_report,
)
from recsys.reporting import loss_curve
from recsys.sessions import SessionConfig, SessionModel, fit_session_model, training_digest
from recsys.storage import atomic_folder, read_json, write_json, write_manifest
from recsys.tracking import Run
from recsys.tracking.descriptions import flatten

Reports = dict[Subset, Report]

TARGETS: tuple[Subset, ...] = ("validation", "test")
LSTM = "lstm"
_SETTINGS = "settings.json"


@task(cache_policy=NO_CACHE, task_run_name="learn sessions", tags=[TRAINING])
def train_session_model(
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
    config = config.resolve(len(split.train))
    with run.child(LSTM) as stage, progress(LSTM, config.epochs, "train_loss") as advance:
        stage.log_config(session_model=config, runtime=runtime)
        vectors = embeddings.vectors
        if config.item_embedding_init == "ppmi" and start is None:
            dim = config.embedding_dim or embeddings.dim
            vectors = ppmi_embeddings(split.train, dim, runtime=runtime)
        digest = training_digest(
            split.train, config, item_embeddings=vectors, start=start, runtime=runtime
        )
        model = fit_session_model(
            split.train,
            config,
            item_embeddings=vectors,
            start=start,
            runtime=runtime,
            # In the run around it, too: there the UI lays the curves of several runs together.
            on_epoch=compose(history, stage.on_epoch, run.on_epoch, advance),
            validate=lambda model: evaluate(model, split, "validation").metrics,
            checkpoint=_checkpoint(split, digest),
        )
        losses = history.series("train_loss")
        curve = loss_curve(losses, "LSTM", "cross-entropy per watch")
        for recorder in (run, stage):
            recorder.log_figure(curve, "loss")
        reports = evaluate_splits(model, split, embeddings)
        record(reports, split, stage)
        return model, reports


def _checkpoint(split: Split, training: str) -> Path:
    """Where the state of a training is kept; the validation targets choose its best epoch."""
    protocol = split.fingerprint("validation")
    return checkpoint_dir(cache_key(training=training, protocol=protocol, program=source_hash()))


def evaluate_baseline(
    name: str, split: Split, embeddings: ItemEmbeddings, runtime: Runtime, run: Run
) -> Reports:
    """Fit a baseline with the settings that do best on validation, and evaluate it.

    One that has been judged before, on the same data and targets, is not fitted again.
    """
    digest = cache_key(
        name=name,
        train=split.train.digest,
        targets=[split.fingerprint(target) for target in TARGETS],
        embeddings=embeddings.digest,
        seed=runtime.seed,
        program=source_hash(),
    )
    folder = reports_dir(digest)
    with run.child(name) as stage:
        if fill((folder,), cache_baseline, digest, name, split, embeddings, runtime):
            stage.set_tags(origin(folder))
        stage.log_params(read_json(folder / _SETTINGS))
        stage.log_config(runtime=runtime)
        reports = {target: read_report(folder / target, split, target) for target in TARGETS}
        record(reports, split, stage)
    return reports


@cached_task("baseline", "{name}", tags=(TRAINING,))
def cache_baseline(
    digest: str, name: str, split: Split, embeddings: ItemEmbeddings, runtime: Runtime
) -> str:
    """Fit, evaluate, and keep the reports with the settings that were chosen."""
    fitted = fit_baseline(
        name,
        split.train,
        item_vectors=embeddings.vectors,
        runtime=runtime,
        validate=lambda model: evaluate(model, split, "validation").metrics[PRIMARY_METRIC],
    )
    reports = evaluate_splits(fitted.model, split, embeddings)
    folder = reports_dir(digest)
    with atomic_folder(folder) as draft:
        write_json(
            draft / _SETTINGS, dict(flatten("baseline", fitted.config.model_dump(mode="json")))
        )
        for target, report in reports.items():
            write_report(report, draft / target)
        write_manifest(draft)
    return str(folder)


def evaluate_splits(model: Scorer, split: Split, embeddings: ItemEmbeddings) -> Reports:
    """Evaluate a model on both targets."""
    vectors = embeddings.vectors
    return {target: evaluate(model, split, target, item_vectors=vectors) for target in TARGETS}


def record(reports: Reports, split: Split, stage: Run) -> None:
    """Record what came out, for all users and for groups of them."""
    stage.log_reports(reports)
    segments = segment_targets(split, "test")
    stage.log_table(segment_metrics(reports["test"].ranks, segments), "segments")


@task(cache_policy=NO_CACHE, task_run_name="compare")
def compare(by_model: dict[str, Reports], run: Run) -> None:
    """Lay the test results side by side; the parent run carries those of the LSTM."""
    table = comparison_table({name: reports["test"] for name, reports in by_model.items()})
    run.log_comparison(table, LSTM)
    ranks = {name: reports["test"].to_frame() for name, reports in by_model.items()}
    run.log_table(significance_table(LSTM, ranks), "differences")
    run.log_reports(by_model[LSTM])
    create_table_artifact(
        key="models",
        table=to_records(table),
        description=f"Next watch, test targets, whole catalogue ranked. Run: {run_link(run)}",
    )
    print_table(table.reset_index(), "Next watch, test targets, whole catalogue ranked")
