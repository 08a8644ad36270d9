"""Ratings in: found, read, checked, filtered and split."""

from __future__ import annotations

from logging import INFO, WARNING
from pathlib import Path

from prefect import get_run_logger

from flows.digests import digest_of, digest_of_files
from flows.places import DATA
from flows.robust import io_task
from recsys.data import (
    FilterReport,
    Interactions,
    ReadingConfig,
    ReadReport,
    Split,
    read_ratings,
)
from recsys.data.public import default_source
from recsys.data.reading.checks import OnReport
from recsys.tracking import Run


@io_task("find data", timeout_seconds=7200)
def find_data(data: str | None) -> str:
    """The data that was named, or MovieLens, or a sample."""
    return data or str(default_source(DATA, notify=get_run_logger().info))


@io_task("digest", timeout_seconds=3600)
def inputs_of(source: str, reading: ReadingConfig, model_name: str) -> str:
    """The digest of what a model is learned from: the bytes of the files, and how they are read."""
    return digest_of(files=digest_of_files(Path(source)), reading=reading, model=model_name)


@io_task("read", timeout_seconds=3600)
def read(source: str, config: ReadingConfig, run: Run) -> Split:
    """Read, check and filter the ratings; hold back later watches to judge models by."""
    log = get_run_logger()
    with run.child("data") as stage:
        stage.log_config(reading=config)

        def account(report: ReadReport) -> None:
            log.log(WARNING if report.rows != report.kept else INFO, "%s", report)
            stage.log_metrics(report.metrics())
            stage.log_table(report.table(), "checks")

        ratings, reports = read_filtered(source, config, account)
        for report in reports:
            log.info("%s", report)
            stage.log_metrics(report.metrics())
        for recorder in (run, stage):
            recorder.log_dataset(ratings, Path(source).name, source)
        split = config.split.apply(ratings).filtered_by(config.filters.facts())
        run.log_split(split, Path(source).name)
        stage.log_params(split.fingerprint("validation"))
    return split


def read_filtered(
    source: str, config: ReadingConfig, on_report: OnReport
) -> tuple[Interactions, list[FilterReport]]:
    """What is left of the ratings after checks and filters, and what each filter removed."""
    ratings = read_ratings(
        source,
        columns=config.columns,
        layout=config.layout,
        checks=config.checks,
        rejected=config.rejected,
        on_report=on_report,
    )
    return config.filters.apply(ratings)
