"""`recsys train`, `refresh`, `sweep`, `recommend`, `sync`: as `python -m flows.<command>`."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import typer
from rich.console import Console

from recsys.errors import requires

app = typer.Typer()

_FLOWS: Final = {
    "train": "Train, evaluate and register a recommender.",
    "refresh": "Update the champion with new ratings.",
    "sweep": "Compare all combinations of some settings.",
    "recommend": "Write recommendations for every user.",
    "sync": "Send the runs that were recorded while MLflow did not answer.",
}


def _add_command(name: str, description: str) -> None:
    """Add a command that passes its arguments to a flow, which parses them."""

    @app.command(
        name,
        help=description,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def run(context: typer.Context) -> None:
        loading = Console(stderr=True).status("Loading Prefect, MLflow and torch …")  # seconds
        with requires("flows"), loading:  # the library does not depend on its flows
            import_module("prefect")  # so that this is the name in the message
            cli = import_module("flows.cli")
            import_module(f"flows.{name}")
        cli.main([name, *context.args])


for _name, _description in _FLOWS.items():
    _add_command(_name, _description)
