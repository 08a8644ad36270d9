"""Recommend items to every user, once a day and whenever the champion or the ratings change."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from prefect import get_run_logger

from flows.cache import hash_files
from flows.cli import main
from flows.orchestration import create_markdown, io_task, markdown_list, pipeline_flow, progress
from flows.settings import Settings
from flows.tasks.data import follow, read_filtered
from recsys import tracking
from recsys.cluster import open_workers
from recsys.data.catalogue import require_same_catalogue
from recsys.errors import TrackingError
from recsys.loading import load_recommender
from recsys.recommender.batch import is_up_to_date, write_recommendations
from recsys.storage import folder_lock


@pipeline_flow("source", "data", "model_name", "k", "day", "output_dir", "cluster")
def recommend(settings: Settings) -> str:
    """Write the recommendations of a day; returns the folder `<output_dir>/day=YYYY-MM-DD`.

    Nothing is written if the folder already has the results of this champion, these ratings and k.
    A run that was interrupted is continued: files that it has completed are kept.
    """
    settings, inputs = resolve_inputs(settings)
    day = settings.day or datetime.now(UTC).date()
    target = (settings.output_dir or Path("data/recommendations")) / f"day={day}"
    log = get_run_logger()
    with folder_lock(target.parent / ".lock", "writes recommendations", log.info):
        if is_up_to_date(target, k=settings.k, metadata=inputs):
            log.info("%s is up to date.", target)
        else:
            write(settings, target, inputs)
            items = markdown_list({"k": settings.k, **inputs})
            create_markdown("recommendations", f"Recommendations in {target}", items)
    return str(target)


@io_task("resolve inputs", timeout_seconds=3600)
def resolve_inputs(settings: Settings) -> tuple[Settings, dict[str, str]]:
    """The settings with the ratings, and everything that the recommendations depend on."""
    name = settings.model_name
    champion = tracking.find_champion(name)
    if champion is None:
        raise TrackingError(f"{name!r} has no champion: run the flow `train` first")
    settings = settings if settings.source else follow(champion, settings)
    return settings, {
        "model": f"models:/{name}/{champion.version}",
        "source": hash_files(Path(str(settings.source)), settings.data),
        "data": settings.data.model_dump_json(),
    }


@io_task("write recommendations", timeout_seconds=6 * 3600)
def write(settings: Settings, target: Path, inputs: dict[str, str]) -> None:
    """Score every user with the champion and write the folder."""
    recommender = load_recommender(inputs["model"])
    log = get_run_logger()
    source = str(settings.source)
    interactions, _ = read_filtered(source, settings.data, lambda report: log.info("%s", report))
    require_same_catalogue(recommender.bundle.catalogue, interactions.catalogue)
    with open_workers(settings.cluster) as workers, progress("recommendations", 100, "") as show:
        write_recommendations(
            recommender,
            interactions,
            target,
            k=settings.k,
            metadata=inputs,
            on_file=lambda done, total: show(100 * done // total, {}),
            workers=workers,
        )


if __name__ == "__main__":
    main(["recommend", *sys.argv[1:]])
