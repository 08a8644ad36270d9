"""The command line of data sets: `recsys data list`, `recsys data get`, `recsys data synth`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from recsys import cli_synth

app = typer.Typer(
    help="Data sets: list the public ones, download one, make one up.",
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
    from recsys.data.public import is_present
    from recsys.data.sources import public_sources

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

    The terms of use go to standard error. A download that ends early continues the next time.
    """
    from recsys.data.public import fetch
    from recsys.data.sources import public_sources

    try:
        print(fetch(name, folder, sources=public_sources()))
    except KeyboardInterrupt:
        print("stopped; the same command continues from here", file=sys.stderr)
        raise typer.Exit(_STOPPED_BY_HAND) from None
