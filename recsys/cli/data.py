"""The command line of data sets: `recsys data list`, `get`, `check` and `synth`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from recsys.cli import synth as cli_synth
from recsys.errors import ConfigError

app = typer.Typer(
    help="Data sets: list the public ones, download one, check one, make one up.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_synth.app)

Folder = Annotated[Path, typer.Option(help="The folder that holds the data sets' own folders.")]

_STOPPED_BY_HAND = 130
"""What shells give for a process that Ctrl-C ended: 128 and the number of its signal."""


@app.command("list")
def list_(folder: Folder = Path("data")) -> None:
    """The data sets that can be downloaded, and which of them are there."""
    # These import pandas: not for `recsys --help`.
    import pandas as pd

    from recsys.console import print_table
    from recsys.data.public import is_present, public_sources

    rows = [
        (
            source.name,
            source.title,
            f"{source.bytes / 1e6:5.1f} MB",
            "yes" if is_present(folder / source.name) else "no",
        )
        for source in public_sources().values()
    ]
    table = pd.DataFrame(rows, columns=["name", "what", "download", "there"])
    print_table(table, f"Public data sets, and whether they are in {folder}")


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="The name of a data set, as in `recsys data list`.")],
    folder: Folder = Path("data"),
) -> None:
    """Download NAME, unless it is there, and print where it is.

    The terms of use go to standard error.
    """
    from recsys.data.public import fetch, public_sources

    try:
        print(fetch(name, folder, sources=public_sources()))
    except KeyboardInterrupt:
        print("stopped; nothing was downloaded", file=sys.stderr)
        raise typer.Exit(_STOPPED_BY_HAND) from None


@app.command()
def check(
    source: Annotated[Path, typer.Argument(help="A folder, a file or a zip archive of ratings.")],
    layout: Annotated[str | None, typer.Option(help="The layout, where names do not tell.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="OURS=THEIRS", help="What it calls a column: user_id=visitor."),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECK=POLICY", help="duplicate=error, future_time=keep, …"),
    ] = None,
    scale: Annotated[
        tuple[float, float] | None, typer.Option(metavar="LOW HIGH", help="The scale of ratings.")
    ] = None,
    quarantine_path: Annotated[
        Path | None, typer.Option(help="The file for rows left out; else beside the source.")
    ] = None,
) -> None:
    """Read the ratings in SOURCE as training does, and tell what is wrong with them.

    Invalid rows are written to <name>.quarantine.parquet with their line and the reason.
    """
    from recsys.console import print_table
    from recsys.data import ReadReport, read_ratings
    from recsys.data.validation import parse_checks

    told: list[ReadReport] = []
    checks = parse_checks({**_pairs(policy), **({} if scale is None else {"scale": scale})})
    ratings = read_ratings(
        source,
        columns=_pairs(column),
        layout=layout,
        checks=checks,
        quarantine_path=quarantine_path,
        on_report=told.append,
    )
    (report,) = told
    if report.findings:
        print_table(report.table(), "What was found")
    print(
        f"{report.n_used:,} of {report.n_rows:,} rows are used: {ratings.n_users:,} users, "
        f"{ratings.n_items:,} items"
    )
    if not report.has_timestamps:
        print("no timestamps: rows are assumed to be in chronological order")
    if report.quarantine_path is not None:
        print(f"quarantined rows are in {report.quarantine_path}")


def _pairs(written: list[str] | None) -> dict[str, str]:
    """Options written as NAME=VALUE.

    Raises:
        ConfigError: one is not.
    """
    pairs = [one.partition("=") for one in written or []]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise ConfigError(f"{name + equals + value!r} is not written as NAME=VALUE")
    return {name: value for name, _, value in pairs}
