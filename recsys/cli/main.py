"""Entry point of the command line: its commands, in the order in which they are used."""

from __future__ import annotations

import io
import sys

import typer

from recsys.cli import data, gc, recommend, serve, train
from recsys.errors import RecsysError

app = typer.Typer(
    help="Train recommenders from logs of ratings, serve them and query them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data")
for part in (train, serve, recommend, gc):
    app.add_typer(part.app)


def main() -> None:
    """Run the command line. Errors that recsys raises are printed in one line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # for titles that the terminal cannot show
    try:
        app()
    except RecsysError as error:
        from recsys.console import printable  # imports pandas: not for `recsys --help`

        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(1)
