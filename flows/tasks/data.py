"""Ratings in: found, read, checked, filtered and split."""

from __future__ import annotations

from logging import INFO, WARNING
from pathlib import Path

from prefect import get_run_logger

from flows.artifacts import tell
from flows.cache_keys import cache_key, hash_files
from flows.paths import DATA_DIR
from flows.retries import io_task
from recsys import tracking
from recsys.data import (
    DataConfig,
    FilterReport,
    Interactions,
    ReadReport,
    Split,
    Subset,
    load_interactions,
    read_ratings,
)
from recsys.data.public import default_source
from recsys.data.validation import ReportCallback
from recsys.errors import BundleError, DataError
from recsys.tracking import Run


@io_task("find data", timeout_seconds=7200)
def resolve_source(data: str | None) -> str:
    """The data that was named, or MovieLens, or a sample."""
    return data or str(default_source(DATA_DIR, notify=get_run_logger().info))


@io_task("digest", timeout_seconds=3600)
def input_hash(source: str, data: DataConfig, model_name: str) -> str:
    """The digest of what a model is learned from: the bytes of the files, and how they are read."""
    return cache_key(files=hash_files(Path(source)), data=data, model=model_name)


@io_task("read", timeout_seconds=3600)
def read(source: str, config: DataConfig, run: Run) -> Split:
    """Read, check and filter the ratings; hold back later watches to judge models by."""
    log = get_run_logger()
    with run.child("data") as stage:
        stage.log_config(data=config)

        def account(report: ReadReport) -> None:
            log.log(WARNING if report.n_rows != report.n_used else INFO, "%s", report)
            stage.log_metrics(report.metrics())
            stage.log_table(report.table(), "checks")

        ratings, reports = read_filtered(source, config, account)
        for report in reports:
            log.info("%s", report)
            stage.log_metrics(report.metrics())
        for recorder in (run, stage):
            recorder.log_dataset(ratings, Path(source).name, source)
        split = config.split.apply(ratings).with_filters(config.filters.fingerprint())
        run.add_note(tracking.describe_data(split, Path(source).name))
        stage.log_params(split.fingerprint("validation"))
    return split


@io_task("look for what was learned from", timeout_seconds=3600)
def drop_leaked_targets(split: Split, earlier: Path | None, run: Run) -> Split:
    """Take from the targets what the champion has learned from; say how much that was.

    Args:
        split: of the ratings as they are now.
        earlier: where the interactions that the champion was learned from should lie; None where
            that was never recorded.
        run: where to record it.

    Raises:
        DataError: no validation target is left to judge by.
    """
    log = get_run_logger()
    try:
        learned = _learned(earlier)
    except BundleError as error:
        told = f"Whether the champion has learned from the targets cannot be told: {error}."
        log.warning("%s", told)
        tell("learned-before", "Targets were not looked through", told, _FLATTERED)
        return split
    fair = split.without_leakage(learned)
    targets: tuple[Subset, ...] = ("validation", "test")
    lost = {target: len(split.rows(target)) - len(fair.rows(target)) for target in targets}
    run.log_metrics({f"{target}_targets_learned_before": n for target, n in lost.items()})
    if not any(lost.values()):
        return split
    told = " and ".join(f"{lost[one]} of {len(split.rows(one))} {one} targets" for one in targets)
    told = f"{told} are watches that the champion has learned from, or come before such: {LATE}"
    if any(len(fair.rows(target)) == 0 for target in targets):
        raise DataError(f"{told}; too few are left to judge by: run the flow `train` instead")
    log.warning("%s; they are learned from and not judged by", told)
    tell("learned-before", "Targets that were set aside", told)
    return fair


def _learned(earlier: Path | None) -> Interactions:
    if earlier is None:
        raise BundleError("its run recorded no counts")
    return load_interactions(earlier)


_FLATTERED = (
    "If it has, they flatter it, and a better challenger may not be promoted; the flow `train` "
    "records what it counts, so that the next `refresh` can tell."
)

LATE = (
    "ratings with earlier times came in, others were removed, the split was changed, or users "
    "who had too few watches for targets now have enough"
)
"""How a watch comes to be a target after it was learned from."""


def read_filtered(
    source: str, config: DataConfig, on_report: ReportCallback
) -> tuple[Interactions, list[FilterReport]]:
    """What is left of the ratings after checks and filters, and what each filter removed."""
    ratings = read_ratings(
        source,
        columns=config.columns,
        layout=config.layout,
        checks=config.checks,
        quarantine_path=config.quarantine_path,
        on_report=on_report,
    )
    return config.filters.apply(ratings)
