"""The session model and the baselines: trained, evaluated and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.cache import cache_key, cache_path, cache_tags, run_cached, source_hash
from flows.orchestration import TRAINING, progress, run_link
from flows.settings import Settings
from flows.tasks.data import SUBSETS
from recsys import evaluation as ev
from recsys.baselines import fit_baseline
from recsys.callbacks import History, compose
from recsys.config import Config, Runtime
from recsys.console import print_table, to_records
from recsys.cooccurrence import Cooccurrence
from recsys.data import Split, Subset
from recsys.embeddings import ItemEmbeddings, ppmi_embeddings
from recsys.reporting import loss_curve, report_page
from recsys.sessions import SessionModel, fit_session_model, training_digest
from recsys.storage import atomic_folder, read_json, write_json, write_manifest
from recsys.tracking import Run, learning_curves
from recsys.tracking.descriptions import flatten

Reports = dict[Subset, ev.Report]

_SETTINGS = "settings.json"
_TITLE = "Next item, test targets, whole catalogue ranked"


@dataclass(frozen=True)
class Trained:
    """The results of all stages, from which a bundle is made."""

    split: Split
    counts: Cooccurrence
    embeddings: ItemEmbeddings
    model: SessionModel
    reports: Reports
    configs: Mapping[str, Config]


@task(cache_policy=NO_CACHE, task_run_name="train session model", tags=[TRAINING])
def train_session_model(
    split: Split,
    embeddings: ItemEmbeddings,
    settings: Settings,
    run: Run,
    start: SessionModel | None = None,
) -> tuple[SessionModel, Reports]:
    """Train and evaluate the session model; its MLflow run is named after the cell.

    An interrupted training of the same data, settings and code resumes after its latest epoch.
    """
    runtime, config = settings.runtime, settings.session_model.resolve(len(split.train))
    name, history = config.cell, History()
    with run.child(name) as child, progress(name, config.epochs, "train_loss") as show:
        child.log_config(session_model=config, runtime=runtime)
        vectors = embeddings.vectors
        if config.item_embedding_init == "ppmi" and start is None:
            dim = config.embedding_dim or embeddings.dim
            vectors = ppmi_embeddings(split.train, dim, runtime=runtime)
        inputs: Any = {"item_embeddings": vectors, "start": start, "runtime": runtime}
        digest = training_digest(split.train, config, **inputs)
        model = fit_session_model(
            split.train,
            config,
            **inputs,
            # The parent run has the curves too: MLflow overlays those of several parent runs.
            on_epoch=compose(history, child.on_epoch, run.on_epoch, show),
            validate=lambda model: validation_metrics(model, split),
            checkpoint=_checkpoint_path(split, digest),
        )
        losses = history.series("train_loss")
        figure = loss_curve(losses, name.upper(), "cross-entropy per interaction")
        for recorder in (run, child):
            recorder.log_figure(figure, "loss")
        reports = evaluate_subsets(model, split, embeddings)
        _log_reports(reports, split, child)
    return model, reports


def _checkpoint_path(split: Split, training: str) -> Path:
    """The validation targets are part of the key, since they select the best epoch."""
    targets = split.fingerprint("validation")
    key = cache_key(training=training, targets=targets, source=source_hash())
    return cache_path("checkpoints", key)


def validation_metrics(model: ev.Scorer, split: Split) -> dict[str, float]:
    """The metric that selects the best epoch."""
    return {ev.PRIMARY_METRIC: ev.evaluate_metric(model, split, "validation", ev.PRIMARY_METRIC)}


def evaluate_subsets(model: ev.Scorer, split: Split, embeddings: ItemEmbeddings) -> Reports:
    """Evaluate a model on the validation and on the test targets."""
    vectors = embeddings.vectors
    return {subset: ev.evaluate(model, split, subset, item_vectors=vectors) for subset in SUBSETS}


def evaluate_baseline(
    name: str, split: Split, embeddings: ItemEmbeddings, runtime: Runtime, run: Run
) -> Reports:
    """Tune and evaluate a baseline, or load its reports from the cache."""
    key = cache_key(
        name=name,
        train=split.train.digest,
        targets=[split.fingerprint(subset) for subset in SUBSETS],
        embeddings=embeddings.digest,
        seed=runtime.seed,
        source=source_hash(),
    )
    folder = cache_path("reports", key)
    with run.child(name) as child:
        if run_cached(
            name,
            lambda: _fit_and_evaluate(folder, name, split, embeddings, runtime),
            folder,
            tags=(TRAINING,),
        ):
            child.set_tags(cache_tags(folder))
        child.log_params(read_json(folder / _SETTINGS))
        child.log_config(runtime=runtime)
        reports = {subset: ev.read_report(folder / subset, split, subset) for subset in SUBSETS}
        _log_reports(reports, split, child)
    return reports


def _fit_and_evaluate(
    folder: Path, name: str, split: Split, embeddings: ItemEmbeddings, runtime: Runtime
) -> None:
    fitted = fit_baseline(
        name,
        split.train,
        item_vectors=embeddings.vectors,
        runtime=runtime,
        validate=lambda model: ev.evaluate_metric(model, split, "validation", ev.PRIMARY_METRIC),
    )
    settings = flatten("baseline", fitted.config.model_dump(mode="json"))
    reports = evaluate_subsets(fitted.model, split, embeddings)
    with atomic_folder(folder) as tmp_path:
        write_json(tmp_path / _SETTINGS, dict(settings))
        for subset, report in reports.items():
            ev.write_report(report, tmp_path / subset)
        write_manifest(tmp_path)


def _log_reports(reports: Reports, split: Split, child: Run) -> None:
    child.log_reports(reports)
    segments = ev.segment_targets(split, "test")
    child.log_table(ev.segment_metrics(reports["test"].ranks, segments), "segments")


@task(cache_policy=NO_CACHE, task_run_name="compare models")
def compare(by_model: dict[str, Reports], model: str, split: Split, run: Run) -> None:
    """Record and print the test results of all models, and write the report page.

    The parent run has the metrics of the session model, `model`.
    """
    tests = {name: reports["test"] for name, reports in by_model.items()}
    table = ev.comparison_table(tests)
    run.log_comparison(table, model)
    ranks = {name: report.to_frame() for name, report in tests.items()}
    run.log_table(ev.significance_table(model, ranks), "differences")
    run.log_reports(by_model[model])
    page = report_page(tests, split, reference=model, curves=learning_curves(run))
    run.log_html(page, "report")
    description = f"{_TITLE}. Run: {run_link(run)}"
    create_table_artifact(key="models", table=to_records(table), description=description)
    print_table(table.reset_index(), _TITLE)
