"""Evaluation: of models on both subsets, of the baselines, and a comparison of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.best_effort import try_prefect, try_print
from flows.cache import cache_key, cache_path, run_cached, source_hash
from flows.orchestration import TRAINING, run_link
from flows.settings import Settings
from flows.tasks.data import SUBSETS
from recsys import embeddings as emb
from recsys import evaluation as ev
from recsys.cluster import THIS_PROCESS, Workers
from recsys.console import print_table, to_records
from recsys.data import Split, Subset
from recsys.reporting import report_page
from recsys.storage import atomic_folder, read_json, write_json, write_manifest
from recsys.tracking import Run, learning_curves
from recsys.tracking.descriptions import flatten

Reports = dict[Subset, ev.Report]

_SETTINGS = "settings.json"
_METRIC = ev.PRIMARY_METRIC
_REMEDIES = "docs/how-to/tuning.md#a-baseline-is-better"
_TITLE = "Next item, test targets, whole catalogue ranked"


def validation_metrics(model: ev.Scorer, split: Split, max_users: int) -> dict[str, float]:
    """The metric that selects the best epoch, as it does the settings of baselines.

    It is that of the same users each time; if these are not all, with its standard error.
    """
    mean, error = ev.estimate_metric(model, split, "validation", _METRIC, max_users=max_users)
    return {_METRIC: mean, **({f"{_METRIC}_standard_error": error} if error else {})}


def evaluate_subsets(
    model: ev.Scorer, split: Split, embeddings: emb.ItemEmbeddings, workers: Workers = THIS_PROCESS
) -> Reports:
    """Evaluate a model on the validation and on the test targets."""
    vectors = embeddings.vectors
    return {
        subset: ev.evaluate(model, split, subset, item_vectors=vectors, workers=workers)
        for subset in SUBSETS
    }


def evaluate_baselines(
    names: Sequence[str],
    split: Split,
    embeddings: emb.ItemEmbeddings,
    settings: Settings,
    run: Run,
    workers: Workers,
    check: Callable[[], None],
) -> dict[str, Reports]:
    """Tune and evaluate baselines; `check` is called in between and raises an error to stop."""
    by_name = {}
    for name in names:
        check()
        by_name[name] = _evaluate_baseline(name, split, embeddings, settings, run, workers, check)
    return by_name


def _evaluate_baseline(
    name: str,
    split: Split,
    embeddings: emb.ItemEmbeddings,
    settings: Settings,
    run: Run,
    workers: Workers,
    check: Callable[[], None],
) -> Reports:
    """Tune and evaluate a baseline, or load its reports from the cache."""
    runtime, max_users = settings.runtime, settings.session_model.validation_users
    key = cache_key(
        name=name,
        validation_users=max_users,
        train=split.train.digest,
        targets=[split.fingerprint(subset) for subset in SUBSETS],
        embeddings=embeddings.digest,
        seed=runtime.seed,
        source=source_hash(),
    )
    folder = cache_path("reports", key)

    def write() -> None:
        vectors = embeddings.vectors
        fitted = ev.tune_baseline(
            name,
            split,
            item_vectors=vectors,
            runtime=runtime,
            max_users=max_users,
            workers=workers,
            on_trial=check,
        )
        check()
        settings = flatten("baseline", fitted.config.model_dump(mode="json"))
        reports = evaluate_subsets(fitted.model, split, embeddings, workers)
        with atomic_folder(folder) as tmp_path:
            write_json(tmp_path / _SETTINGS, dict(settings))
            for subset, report in reports.items():
                ev.write_report(report, tmp_path / subset)
            write_manifest(tmp_path)

    with run.child(name) as child:
        run_cached(name, folder, write, child, tags=(TRAINING,))
        child.log_params(read_json(folder / _SETTINGS))
        child.log_config(runtime=runtime)
        reports = {subset: ev.read_report(folder / subset, split, subset) for subset in SUBSETS}
        log_reports(reports, split, child)
    return reports


def log_reports(reports: Reports, split: Split, child: Run) -> None:
    """Record the metrics of both subsets, and those of segments of the test targets."""
    child.log_reports(reports)
    segments = ev.segment_targets(split, "test")
    child.log_table(ev.segment_metrics(reports["test"], segments), "segments")


@task(cache_policy=NO_CACHE, task_run_name="compare models")
def compare(by_model: dict[str, Reports], model: str, split: Split, run: Run) -> None:
    """Record and print the test results of all models, and write the report page."""
    tests = {name: reports["test"] for name, reports in by_model.items()}
    table = ev.comparison_table(tests)
    run.log_comparison(table, model)
    ranks = {name: report.to_frame() for name, report in tests.items()}
    differences = ev.significance_table(model, ranks)
    run.log_table(differences, "differences")
    page = report_page(tests, split, reference=model, curves=learning_curves(run))
    run.log_html(page, "report")
    description = f"{_TITLE}. Run: {run_link(run)}"
    records = to_records(table)
    try_prefect(create_table_artifact, key="models", table=records, description=description)
    try_print(print_table, table.reset_index(), _TITLE)
    if message := describe_better_baseline(by_model, model, differences.to_dict("index")):
        get_run_logger().info(message)


def describe_better_baseline(
    by_model: Mapping[str, Reports], model: str, differences: Mapping[Any, Mapping[Any, float]]
) -> str:
    """Name the baseline with the highest validation metric; empty if the model's is as high.

    `differences` are the rows of the `significance_table` of the test targets.
    """
    values = {name: reports["validation"].metrics[_METRIC] for name, reports in by_model.items()}
    best = max(values, key=values.__getitem__)
    if values[best] <= values[model]:
        return ""
    test = differences[best]
    return (
        f"{best} has a higher validation {_METRIC} than {model}: {values[best]:.4f} and "
        f"{values[model]:.4f}; difference on the test targets {test['difference']:+.4f} "
        f"(95% interval {test['low']:+.4f} to {test['high']:+.4f}, adjusted p = "
        f"{test['p_holm']:.2g}). "
        f"What to do: {_REMEDIES}"
    )
