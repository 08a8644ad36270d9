"""`recsys gc`: list or remove old runs and cached results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    import shutil
    from datetime import UTC, datetime, timedelta

    import pandas as pd

    from recsys.console import print_table
    from recsys.tracking.store import connect

    client = connect()
    with requires("flows"):
        from recsys.tracking.gc import (
            folder_size,
            last_modified,
            old_folders,
            plan_gc,
            remove_runs,
            size_in_store,
        )

    before = datetime.now(UTC) - timedelta(days=days)
    plan = plan_gc(client, before, keep)
    folders = old_folders(cache, before, plan.params_in_use)
    rows = [
        ("run", tree.root.info.run_name, len(tree.runs), tree.ended, size_in_store(client, tree))
        for tree in plan.remove
    ]
    rows += [("cache", str(path), 1, last_modified(path), folder_size(path)) for path in folders]
    kept = f"{len(plan.keep)} runs are kept"
    if not rows:
        print(f"nothing to remove: {kept}")
        return
    table = pd.DataFrame(rows, columns=["kind", "name", "runs", "finished", "size"])
    total = _megabytes(table["size"].sum())
    table["finished"] = table["finished"].dt.strftime("%Y-%m-%d")
    table["size"] = table["size"].map(_megabytes)
    print_table(table, f"Finished more than {days} days ago and not in use")
    if not yes:
        print(f"{total} in total; {kept}. Nothing is removed without --yes")
        return
    rows_removed = remove_runs(client, plan.remove)
    for folder in folders:
        shutil.rmtree(folder)
    print(f"removed: {total}; {kept}")
    if not rows_removed:
        print("files were removed and rows marked as deleted: run `mlflow gc` on the server")


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB"
