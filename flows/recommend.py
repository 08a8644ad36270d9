"""The best items for every user, once a day and again whenever the champion or the data change."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer
from prefect import flow, get_run_logger
from pydantic import Field

from flows.artifacts import markdown_list, progress, report_failure, tell
from flows.cache_keys import hash_files
from flows.cli import friendly_errors, prefect_api
from flows.paths import RECOMMENDATIONS_DIR
from flows.retries import io_task
from flows.settings import read_settings
from flows.tasks.data import read_filtered
from recsys import tracking
from recsys.data import DataConfig
from recsys.errors import DataError, TrackingError
from recsys.loading import load_recommender
from recsys.recommender.batch import is_up_to_date, write_recommendations


@flow(
    name="recommend",
    on_failure=[report_failure],
    on_crashed=[report_failure],
    on_cancellation=[report_failure],
)
def recommend(
    source: str | None = None,
    data: DataConfig = DataConfig(),
    model_name: str = "recsys",
    k: Annotated[int, Field(ge=1, le=1000)] = 10,
    folder: Path = RECOMMENDATIONS_DIR,
    day: date | None = None,
) -> str:
    """Recommend to every user; gives back the folder `<folder>/day=YYYY-MM-DD`.

    Nothing is done where the folder of that day is of the same champion, data and k already.

    Args:
        source: a folder or file of ratings; None takes what the champion learned from, wherever
            that is, so that a schedule or an event need not know it.
        data: how the ratings are read, checked and filtered; the split is not looked at.
        model_name: the registered model, whose champion recommends.
        k: how many items for each user.
        folder: where the folders of the days are.
        day: which day to write; None takes today, UTC.
    """
    source = source or data_of_champion(model_name)
    facts = facts_of(source, data, model_name)
    target = folder / f"day={day or datetime.now(UTC).date()}"
    if is_up_to_date(target, k=k, metadata=facts):
        get_run_logger().info("%s is up to date", target)
        return str(target)
    write(source, data, k, target, facts)
    tell("recommendations", f"Recommendations in {target}", markdown_list({"k": k, **facts}))
    return str(target)


@io_task("find data", timeout_seconds=600)
def data_of_champion(model_name: str) -> str:
    """Where the ratings are that the champion learned from."""
    source = _champion(model_name).source
    if source is None or not Path(source).exists():
        raise DataError(
            f"the champion of {model_name!r} learned from {source or 'ratings of unknown place'}, "
            "which is not here: name the ratings by `source`"
        )
    return source


def _champion(model_name: str) -> tracking.ChampionVersion:
    champion = tracking.find_champion(model_name)
    if champion is None:
        raise TrackingError(f"{model_name!r} has no champion yet: run the flow `train` first")
    return champion


@io_task("look", timeout_seconds=3600)
def facts_of(source: str, data: DataConfig, model_name: str) -> dict[str, str]:
    """What the recommendations will be made of."""
    return {
        "model": f"models:/{model_name}/{_champion(model_name).version}",
        "source": hash_files(Path(source)),
        "data": data.model_dump_json(),
    }


@io_task("write", timeout_seconds=6 * 3600)
def write(source: str, data: DataConfig, k: int, target: Path, facts: dict[str, str]) -> None:
    """Score every user with the champion and write the folder; it appears whole or not at all."""
    recommender = load_recommender(facts["model"])
    log = get_run_logger()
    ratings, _ = read_filtered(source, data, lambda report: log.info("%s", report))
    with progress("recommendations", 100, "") as advance:
        write_recommendations(
            recommender,
            ratings,
            target,
            k=k,
            metadata=facts,
            on_file=lambda done, of: advance(100 * done // of, {}),
        )


def main(
    source: Annotated[str | None, typer.Option(help="A folder or file of ratings.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML with a table [data].")] = None,
    k: Annotated[int, typer.Option(help="How many items for each user.")] = 10,
    day: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Which day.")] = None,
) -> None:
    """Recommend to every user with the champion."""
    with friendly_errors():
        settings = read_settings(config)
        with prefect_api():
            when = day.date() if day else None
            recommend(source, settings.data, settings.model_name, k, day=when)


if __name__ == "__main__":
    typer.run(main)
