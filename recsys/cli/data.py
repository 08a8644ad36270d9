"""`recsys data list`, `get`, `check` and `synth`: data sets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError

from recsys.config import format_validation_error
from recsys.errors import ConfigError

app = typer.Typer(
    help="List, download, check and generate data sets.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Folder = Annotated[Path, typer.Option(help="The parent folder of the data sets.")]

_SYNTH_OPTIONS = {
    "n_users": "--users",
    "n_items": "--items",
    "mean_events": "--events-per-user",
    "seed": "--seed",
}
"""Options of `synth` by field of `SyntheticConfig`."""


@app.command("list")
def list_(folder: Folder = Path("data")) -> None:
    """List the public data sets, and whether they have been downloaded."""
    import pandas as pd

    from recsys.console import print_table
    from recsys.data.public import is_present, public_sources

    rows = [
        (name, source.title, f"{source.bytes / 1e6:5.1f} MB", is_present(folder / name))
        for name, source in public_sources().items()
    ]
    table = pd.DataFrame(rows, columns=["name", "description", "size", "downloaded"])
    table["downloaded"] = table["downloaded"].map({True: "yes", False: "no"})
    print_table(table, f"Public data sets in {folder}")


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="The name of a data set, see `recsys data list`.")],
    folder: Folder = Path("data"),
) -> None:
    """Download NAME if necessary and print its folder.

    The terms of use are printed to standard error.
    """
    from recsys.data.public import fetch, public_sources

    try:
        print(fetch(name, folder, sources=public_sources()))
    except KeyboardInterrupt:
        print("interrupted: nothing was downloaded", file=sys.stderr)
        raise typer.Exit(130) from None  # 128 + SIGINT, as of a shell


@app.command()
def check(
    source: Annotated[Path, typer.Argument(help="A folder, file or zip archive of ratings.")],
    layout: Annotated[
        str | None, typer.Option(help="The file layout, if it cannot be detected.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="OURS=THEIRS", help="The name of a column: user_id=visitor."),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECK=POLICY", help="duplicate=error, future_time=keep, …"),
    ] = None,
    scale: Annotated[
        tuple[float, float] | None, typer.Option(metavar="LOW HIGH", help="The range of ratings.")
    ] = None,
    quarantine_path: Annotated[
        Path | None,
        typer.Option(help="The file for invalid rows. Default: <name>.quarantine.parquet."),
    ] = None,
) -> None:
    """Read the ratings in SOURCE as training does and report invalid rows.

    Invalid rows are written to a file, each with its line and the reason.
    """
    from recsys.console import print_table
    from recsys.data import ReadReport, read_ratings
    from recsys.data.validation import parse_checks

    reports: list[ReadReport] = []
    checks = parse_checks({**_pairs(policy), **({} if scale is None else {"scale": scale})})
    ratings = read_ratings(
        source,
        columns=_pairs(column),
        layout=layout,
        checks=checks,
        quarantine_path=quarantine_path,
        on_report=reports.append,
    )
    (report,) = reports
    if report.findings:
        print_table(report.table(), "Findings")
    print(
        f"{report.n_used:,} of {report.n_rows:,} rows are used: {ratings.n_users:,} users, "
        f"{ratings.n_items:,} items"
    )
    if not report.has_timestamps:
        print("no timestamps: rows are assumed to be in chronological order")
    if report.quarantine_path is not None:
        print(f"invalid rows are in {report.quarantine_path}")


@app.command()
def synth(
    folder: Annotated[Path, typer.Argument(help="The folder to create.", metavar="OUT_FOLDER")],
    users: Annotated[int, typer.Option(help="The number of users.")] = 1_000,
    items: Annotated[int, typer.Option(help="The number of films.")] = 600,
    events_per_user: Annotated[int, typer.Option(help="The mean number of ratings per user.")] = 60,
    seed: Annotated[int, typer.Option(help="The same seed generates the same ratings.")] = 0,
    format_: Annotated[
        Literal["csv", "parquet"],
        typer.Option("--format", help="The file format; csv has the layout of MovieLens."),
    ] = "csv",
) -> None:
    """Generate film ratings of any size, with user tastes, film series and viewing sessions."""
    from recsys.callbacks import History, compose
    from recsys.console import progress_bar
    from recsys.data.synthetic import SyntheticConfig, write_parquet, write_sample

    try:
        config = SyntheticConfig(
            n_users=users, n_items=items, mean_events=events_per_user, seed=seed
        )
    except ValidationError as error:
        message = format_validation_error(error)
        for field, option in _SYNTH_OPTIONS.items():
            message = message.replace(field, option)
        raise ConfigError(message) from None
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"{folder} already exists: choose a new folder")
    write = write_parquet if format_ == "parquet" else write_sample
    history = History()
    try:
        with progress_bar("generating", config.n_blocks, "ratings", print_line=None) as on_block:
            write(folder.absolute(), config, compose(on_block, history))
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error}") from error
    n_ratings = int(history.series("ratings")[-1])
    print(f"{n_ratings:,} ratings by {users:,} users of {items:,} films: {folder}")


def _pairs(arguments: list[str] | None) -> dict[str, str]:
    """Parse options of the form NAME=VALUE."""
    pairs = {}
    for argument in arguments or []:
        name, _, value = argument.partition("=")
        if not (name and value):
            raise ConfigError(f"{argument!r} is not of the form NAME=VALUE")
        pairs[name] = value
    return pairs
