"""The command line: `recsys data synth`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from recsys.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from recsys.data.synthetic import SyntheticConfig

app = typer.Typer()

_OPTIONS: Final = {
    "n_users": "--users",
    "n_items": "--items",
    "mean_events": "--events-per-user",
    "seed": "--seed",
}
"""The options of the command, by the settings that they are."""


class Format(StrEnum):
    """How ratings are written."""

    CSV = "csv"
    PARQUET = "parquet"


@app.command()
def synth(
    folder: Annotated[Path, typer.Argument(help="Where the files shall be.", metavar="OUT_FOLDER")],
    users: Annotated[int, typer.Option(help="How many users.")] = 1_000,
    items: Annotated[int, typer.Option(help="How many films there are to watch.")] = 600,
    events_per_user: Annotated[int, typer.Option(help="Ratings by user, on average.")] = 60,
    seed: Annotated[int, typer.Option(help="The same seed gives the same ratings.")] = 0,
    format_: Annotated[
        Format, typer.Option("--format", help="csv as MovieLens has it, or parquet.")
    ] = Format.CSV,
) -> None:
    """Make up film ratings: tastes, franchises and sittings as real ones have, of any size."""
    config = _config(n_users=users, n_items=items, mean_events=events_per_user, seed=seed)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already: name a new folder")
    try:
        n_ratings = _write(folder, config, format_)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error}") from error
    print(f"{n_ratings:,} ratings by {users:,} users of {items:,} films: {folder}")


def _config(**settings: int) -> SyntheticConfig:
    from pydantic import ValidationError

    from recsys.data.synthetic import SyntheticConfig  # imports numpy and pandas

    try:
        return SyntheticConfig.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(_in_a_line(error)) from None


def _in_a_line(error: ValidationError) -> str:
    """What is wrong with the settings, named as the options of the command."""
    complaints = []
    for problem in error.errors():
        complaint = problem["msg"].removeprefix("Value error, ")
        if problem["loc"]:
            complaint = f"{problem['loc'][0]} {problem['input']}: {complaint}"
        for setting, option in _OPTIONS.items():
            complaint = complaint.replace(setting, option)
        complaints.append(complaint)
    return "; ".join(complaints)


def _write(folder: Path, config: SyntheticConfig, format_: Format) -> int:
    """Write the files behind a progress bar; give the number of ratings."""
    from recsys.callbacks import History, compose
    from recsys.console import progress_bar
    from recsys.data.synthetic import write_parquet, write_sample

    write = write_parquet if format_ is Format.PARQUET else write_sample
    history = History()
    with progress_bar("making ratings", config.n_blocks, "ratings", lines=False) as on_block:
        write(folder.absolute(), config, compose(on_block, history))
    return int(history.series("ratings")[-1])
