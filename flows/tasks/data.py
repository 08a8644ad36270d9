"""The ratings: found, read, validated, filtered and split."""

from __future__ import annotations

from logging import INFO, WARNING
from pathlib import Path

from prefect import get_run_logger

from flows.cache import DATA_DIR, cache_key, hash_files
from flows.orchestration import create_markdown, io_task
from flows.settings import Settings
from recsys import data as rd
from recsys.data.public import default_source
from recsys.data.report import ReportCallback
from recsys.errors import BundleError, DataError
from recsys.tracking import Run, describe_data

SUBSETS: tuple[rd.Subset, ...] = ("validation", "test")


@io_task("resolve source", timeout_seconds=7200)
def resolve_source(source: str | None) -> str:
    """The given source, else MovieLens latest-small, else a synthetic sample."""
    return source or str(default_source(DATA_DIR, notify=get_run_logger().info))


@io_task("hash inputs", timeout_seconds=3600)
def input_hash(source: str, settings: Settings) -> str:
    """A hash of what a model is trained on: the files, and how they are read."""
    files = hash_files(Path(source), settings.data)
    return cache_key(files=files, data=settings.data, model=settings.model_name)


@io_task("read ratings", timeout_seconds=3600)
def read(source: str, config: rd.DataConfig, run: Run) -> rd.Split:
    """Read, validate and filter the ratings; hold out the latest ones for evaluation."""
    log, name = get_run_logger(), Path(source).name
    with run.child("data") as child:
        child.log_config(data=config)

        def on_report(report: rd.ReadReport) -> None:
            log.log(WARNING if report.n_rows != report.n_used else INFO, "%s", report.summary())
            child.log_metrics(report.metrics())
            child.log_table(report.table(), "checks")
            child.log_json(report.to_dict(), "profile")
            if report.profile is not None:
                child.log_table(report.profile.table(), "data")

        interactions, reports = read_filtered(source, config, on_report)
        for report in reports:
            log.info("%s", report)
            child.log_metrics(report.metrics())
        for recorder in (run, child):
            recorder.log_dataset(interactions, name, source)
        split = config.split.apply(interactions).with_filters(config.filters.fingerprint())
        run.add_note(describe_data(split, name))
        child.log_params(split.fingerprint("validation"))
    return split


def read_filtered(
    source: str, config: rd.DataConfig, on_report: ReportCallback
) -> tuple[rd.Interactions, list[rd.FilterReport]]:
    """The valid interactions that pass the filters, and what each filter removed."""
    interactions = rd.read_ratings(source, **config.read_options(), on_report=on_report)
    return config.filters.apply(interactions)


@io_task("drop leaked targets", timeout_seconds=3600)
def drop_leaked_targets(split: rd.Split, trained_on: Path | None, run: Run) -> rd.Split:
    """Remove the targets that the champion was trained on, which would inflate its metrics.

    `trained_on` has the interactions that the champion was trained on; None if it is unknown.

    Raises:
        DataError: no validation or no test target is left.
    """
    log = get_run_logger()
    try:
        earlier = rd.load_interactions(trained_on) if trained_on else None
        reason = "its run recorded no counts"
    except BundleError as error:
        earlier, reason = None, str(error)
    if earlier is None:
        message = f"Cannot determine whether the champion was trained on the targets: {reason}."
        log.warning("%s", message)
        consequence = (
            "If it was, its metrics are too high, and a better challenger may not be promoted. "
            "The flow `train` records its data, so that the next `refresh` can check."
        )
        create_markdown("leaked-targets", "Targets were not checked", message, consequence)
        return split
    fair = split.without_leakage(earlier)
    leaked = {name: len(split.rows(name)) - len(fair.rows(name)) for name in SUBSETS}
    run.log_metrics({f"{name}_leaked_targets": n for name, n in leaked.items()})
    if not any(leaked.values()):
        return split
    counts = [f"{n} of {len(split.rows(name))} {name} targets" for name, n in leaked.items()]
    message = (
        f"The champion was trained on {' and '.join(counts)}, or on later ones. Earlier ratings "
        "were added, ratings were removed, the split was changed, or users who had too few "
        "interactions for targets now have enough."
    )
    if not all(len(fair.rows(name)) for name in SUBSETS):
        raise DataError(f"{message} Too few targets are left: run the flow `train` instead")
    log.warning("%s These are used for training only.", message)
    create_markdown("leaked-targets", "Leaked targets", message)
    return fair
