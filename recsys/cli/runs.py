"""`recsys compare` and `recsys report`: recorded runs."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from recsys.errors import ConfigError, requires

if TYPE_CHECKING:
    from recsys.tracking.compare import RunComparison

app = typer.Typer()

_RUN_HELP = "Runs by id, the beginning of an id, name, or models:/<name>@<alias>."


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(help=_RUN_HELP)],
    subset: Annotated[
        Literal["validation", "test"], typer.Option(help="The targets of the metrics.")
    ] = "test",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare RUNS with the first of them: parameters that differ, metrics, paired differences.

    Differences are those of the users' metrics, with their 95% interval, where runs have the same
    protocol and store the ranks of every user.
    """
    if len(runs) < 2:
        raise ConfigError("one run was given: name two or more")
    from recsys.tracking.store import connect

    client = connect()
    with requires("flows"):
        from recsys.tracking.compare import compare_runs

    found = compare_runs(client, runs, subset)
    if as_json:
        _print_json(found)
    else:
        _print_tables(found, subset)


@app.command()
def report(
    run: Annotated[str, typer.Argument(help=_RUN_HELP)],
    folder: Annotated[
        Path, typer.Option(help="Where a page of a remote store is written.")
    ] = Path(),
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Print the path of the report page of RUN, which compares all its models."""
    from recsys.tracking.store import connect

    client = connect()
    with requires("flows"):
        from recsys.tracking.compare import find_run, report_path

    path = report_path(client, find_run(client, run), folder)
    print(path)
    if open_ and not webbrowser.open(path.absolute().as_uri()):
        raise ConfigError(f"no browser was found: open {path} yourself")


def _print_tables(found: RunComparison, subset: str) -> None:
    from recsys.console import print_table

    first = found.runs.index[0]
    print_table(found.runs.drop(columns="run_id").rename_axis("run").reset_index(), "Runs")
    print("Same protocol." if found.same_protocol else "Not the same protocol.")
    is_shared = (found.parameters != "").all(axis=1)
    shared = found.parameters[is_shared].map(lambda x: x if len(x) < 60 else f"{x[:59]}…")
    if len(shared):
        print_table(shared.reset_index(), "\nParameters that differ")
    else:
        print("\nNo parameters of all runs differ.")
    if n_others := int((~is_shared).sum()):
        print(f"{n_others} more parameters are of some of the runs: --json lists them.")
    if len(found.metrics):
        # As MLflow has them: rounded again, they could differ from those of the training.
        print_table(found.metrics.reset_index(), f"\nMetrics on {subset} targets", decimals=6)
    else:
        print(f"\nNo metrics on {subset} targets.")
    if len(found.differences):
        print_table(found.differences, f"\nDifference to {first}, with its 95% interval")
    for note in found.notes:
        print(f"\nNot compared: {note}")


def _print_json(found: RunComparison) -> None:
    content = {
        name: json.loads(getattr(found, name).reset_index().to_json(orient="records"))
        for name in ("runs", "parameters", "metrics")
    }
    content["differences"] = json.loads(found.differences.to_json(orient="records"))
    content |= {"same_protocol": found.same_protocol, "notes": found.notes}
    print(json.dumps(content, indent=2, ensure_ascii=False))
