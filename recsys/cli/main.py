"""Entry point of the command line: its commands, in the order in which they are used."""

from __future__ import annotations

import io
import sys
from typing import NoReturn

import typer

from recsys.cli import data, doctor, gc, recommend, runs, serve, train
from recsys.cli.examples import epilog
from recsys.cli.output import output_errors
from recsys.errors import ExitCode, RecsysError

app = typer.Typer(
    help="Train recommenders from logs of ratings, serve them and query them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data")
for part in (train, runs, serve, recommend, gc, doctor):
    app.add_typer(part.app)
for part in (data, train, runs, serve, recommend, gc, doctor):
    for command in part.app.registered_commands:
        name = command.name or getattr(command.callback, "__name__", "")
        command.epilog = epilog(f"data {name}" if part is data else name)


def main() -> None:
    """Run the command line. Errors that recsys raises are printed in one line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # for titles that the terminal cannot show
    try:
        with output_errors():
            app()
    except RecsysError as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        path = str(error.filename)
        _fail(f"{path if len(path) <= 200 else path[:200] + '…'}: {error.strerror}")


def _fail(message: str) -> NoReturn:
    from recsys.console import printable  # imports pandas: not for `recsys --help`

    print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(ExitCode.ERROR)
