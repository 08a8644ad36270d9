"""The command line of cleaning up: `recsys gc`."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def gc(
    days: Annotated[int, typer.Option(min=0, help="What is newer than so many days stays.")] = 30,
    newest: Annotated[
        int, typer.Option(min=0, help="So many runs of each experiment stay, however old.")
    ] = 5,
    work: Annotated[
        Path, typer.Option(help="Where flows keep counts, interactions and checkpoints.")
    ] = Path("data/cache"),
    yes: Annotated[bool, typer.Option("--yes", help="Remove it, for good.")] = False,
) -> None:
    """List old runs, models and kept results; with --yes, remove them and their files.

    The champion, the challenger and every other version with an alias stay, with the runs that they
    came from. Only runs that recsys recorded are looked at.
    """
    # These import MLflow: not for `recsys --help`.
    import pandas as pd

    from recsys.console import print_table
    from recsys.tracking.cleaning import in_order, survey
    from recsys.tracking.leftovers import last_written, old_folders, size_of
    from recsys.tracking.removal import bytes_of, remove
    from recsys.tracking.store import connect

    client = connect()
    before = datetime.now(UTC) - timedelta(days=days)
    found = survey(client, before, newest)
    trees = in_order(found.old)
    folders = old_folders(work, before, found.kept_facts)
    sizes = [bytes_of(client, tree) for tree in trees]
    rows = [
        ("run", tree.root.info.run_name, len(tree.members), f"{tree.ended:%Y-%m-%d}", _mb(size))
        for tree, size in zip(trees, sizes, strict=True)
    ]
    rows += [
        ("kept result", str(path), 1, f"{last_written(path):%Y-%m-%d}", _mb(size_of(path)))
        for path in folders
    ]
    if not rows:
        print(f"nothing to remove: {len(found.kept)} runs stay")
        return
    table = pd.DataFrame(rows, columns=["what", "name", "runs in it", "ended", "size"])
    print_table(table, f"Ended more than {days} days ago and needed by nothing")
    total = sum(sizes) + sum(map(size_of, folders))
    if not yes:
        print(f"{_mb(total)} in all; {len(found.kept)} runs stay. Nothing is removed without --yes")
        return
    outcomes = {remove(client, tree) for tree in trees}
    for folder in folders:
        shutil.rmtree(folder)
    print(f"removed: {_mb(total)}; {len(found.kept)} runs stay")
    if False in outcomes:
        print("the files are gone, the rows are marked: `mlflow gc` on the server removes them")


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
