"""`recsys gc`: list or remove old runs and cached results."""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from recsys.errors import requires

app = typer.Typer()


@app.command()
def gc(
    days: Annotated[
        int, typer.Option(min=0, help="Remove only what finished more than this many days ago.")
    ] = 30,
    keep: Annotated[
        int, typer.Option(min=0, help="Always keep this many of the latest runs per experiment.")
    ] = 5,
    cache: Annotated[
        Path, typer.Option(help="The folder with the cached results of flows.")
    ] = Path("data/cache"),
    yes: Annotated[bool, typer.Option("--yes", help="Remove them permanently.")] = False,
) -> None:
    """List old runs, models and cached results; with --yes, remove them.

    Versions with an alias, such as the champion and the challenger, are always kept, with the runs
    that they came from. Runs that were not recorded by recsys are ignored.
    """
    from recsys.tracking.store import connect

    client = connect()
    with requires("flows"):
        from recsys.tracking import gc as runs

    with ExitStack() as stack:
        if yes:  # not while a training reads or writes what is to be removed
            stack.enter_context(runs.cache_lock(cache, partial(print, file=sys.stderr)))
        _gc(client, days, keep, cache, yes)


def _gc(client: Any, days: int, keep: int, cache: Path, yes: bool) -> None:
    import pandas as pd

    from recsys.console import print_table
    from recsys.tracking import gc as runs

    before = datetime.now(UTC) - timedelta(days=days)
    to_remove, to_keep = runs.select_runs(client, before, keep)
    folders = runs.old_folders(cache, before, to_keep)
    kept = "1 run is kept" if len(to_keep) == 1 else f"{len(to_keep)} runs are kept"
    rows: list[tuple[Any, ...]] = [
        ("run", tree.root.info.run_name, len(tree.runs), tree.ended, runs.size_of(client, tree))
        for tree in to_remove
    ]
    rows += [("cache", str(path), 1, modified, size) for path, modified, size in folders]
    if not rows:
        print(f"nothing to remove: {kept}")
        return
    table = pd.DataFrame(rows, columns=["kind", "name", "runs", "finished", "size"])
    table["finished"] = [f"{finished:%Y-%m-%d}" for finished in table["finished"]]
    table["size"] = table["size"].map(_megabytes)
    print_table(table, f"Finished more than {days} days ago and not in use")
    total = _megabytes(sum(size for *_, size in rows))
    if not yes:
        print(f"{total} in total; {kept}. Nothing is removed without --yes")
        return
    rows_removed = runs.remove_runs(client, to_remove)
    for folder, _, _ in folders:
        shutil.rmtree(folder)
    print(f"removed: {total}; {kept}")
    if not rows_removed:
        print("files were removed and rows marked as deleted: run `mlflow gc` on the server")


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB"
