"""The ratings: found, read, validated, filtered and split."""

from __future__ import annotations

from logging import INFO, WARNING
from pathlib import Path

from prefect import get_run_logger, runtime

from flows.cache import DATA_DIR, cache_key, hash_files
from flows.orchestration import create_markdown, io_task
from flows.settings import Settings
from recsys import data as rd
from recsys import tracking
from recsys.data.public import DEFAULT_SOURCE, SAMPLE, default_source, fetch
from recsys.data.report import ReportCallback
from recsys.errors import DataError
from recsys.tracking import ChampionVersion, Run, describe_data

SUBSETS: tuple[rd.Subset, ...] = ("validation", "test")


@io_task("resolve source", timeout_seconds=7200)
def resolve_source(settings: Settings) -> tuple[str, Settings]:
    """The source of the ratings, and the settings with it.

    It is the given one, else that of the champion, else MovieLens latest-small; a synthetic sample
    only if no version of the model was registered. A champion of the sample is replaced, but not
    by a deployment.

    Raises:
        DataError: the champion's ratings are not available, or a deployment has neither a source
            nor a champion.
    """
    name, source = settings.model_name, settings.source
    champion = None if source else tracking.find_champion(name)
    if champion and (runtime.deployment.id or not is_sample(champion.source)):
        settings = follow(champion, settings)
    elif not source:
        if runtime.deployment.id:
            raise DataError(
                f"there is no source, and no champion {name!r} whose source would be used: deploy "
                "with one (`make deploy DATA=…`), or train a model first (`make run DATA=…`)"
            )
        notify = get_run_logger().info
        if champion or not tracking.has_versions(name):
            found = default_source(DATA_DIR, notify)
        else:
            found = fetch(DEFAULT_SOURCE, DATA_DIR, notify=notify)
        settings = settings.model_copy(update={"source": str(found)})
    return str(settings.source), settings


def is_sample(source: str | None) -> bool:
    """Whether a source is the synthetic sample."""
    return source is not None and Path(source) == DATA_DIR / SAMPLE


def follow(champion: ChampionVersion, settings: Settings) -> Settings:
    """The settings with the source of the champion, read in the same way unless `data` is set.

    Raises:
        DataError: the champion's ratings are not available.
    """
    source, name = champion.source, settings.model_name
    if source is None or not Path(source).exists():
        raise DataError(
            f"the ratings that the champion of {name!r} was trained on are not available "
            f"({source or 'their location was not recorded'}): set `source`"
        )
    data = settings.data
    if champion.data_config and data == rd.DataConfig():
        data = rd.DataConfig.model_validate_json(champion.data_config)
    return settings.model_copy(update={"source": source, "data": data})


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
            is_odd = report.n_rows != report.n_used or report.notes
            log.log(WARNING if is_odd else INFO, "%s", report.summary())
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
def drop_leaked_targets(split: rd.Split, learned: rd.Interactions, run: Run) -> rd.Split:
    """Remove the targets that the champion was trained on, which would inflate its metrics.

    `learned` has the interactions that it was trained on.

    Raises:
        DataError: no validation or no test target is left.
    """
    fair = split.without_leakage(learned)
    leaked = {name: len(split.rows(name)) - len(fair.rows(name)) for name in SUBSETS}
    run.log_metrics({f"{name}_leaked_targets": n for name, n in leaked.items()})
    if not any(leaked.values()):
        return split
    counts = [f"{n} of {len(split.rows(name))} {name} targets" for name, n in leaked.items()]
    message = (
        f"The champion was trained on {' and '.join(counts)}, or on later ones. Earlier ratings "
        "were added, ratings were removed or replaced by later ones of the same user and item, the "
        "split was changed, or users who had too few interactions for targets now have enough."
    )
    if not all(len(fair.rows(name)) for name in SUBSETS):
        raise DataError(
            f"{message} Too few targets are left: run the flow `train` instead, with "
            "`replace_champion` if its model is to replace the champion"
        )
    get_run_logger().warning("%s These are used for training only.", message)
    create_markdown("leaked-targets", "Leaked targets", message)
    return fair
