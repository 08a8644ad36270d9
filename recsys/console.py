"""What people see: tables, and progress bars where there is a wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from recsys.callbacks import EpochCallback

_WIDE = 110
"""Letters on a line from which a table of nine metrics fits with its headings unbroken."""


@contextmanager
def progress_bar(description: str, epochs: int, metric: str) -> Iterator[EpochCallback]:
    """Show a bar that moves on by one each time the yielded function is called.

    Args:
        description: what is being waited for.
        epochs: how many calls make it full.
        metric: which of the metrics to show beside the bar.

    Yields:
        An `on_epoch(epoch, metrics)` to hand to a fit.
    """
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(description, total=epochs, note="")

        def on_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
            note = f"{metric} {metrics[metric]:.4g}" if metric in metrics else ""
            bar.update(task, completed=epoch, note=note)

        yield on_epoch
        # A fit that converged early is done, too.
        bar.update(task, completed=epochs)


def results_frame(rows: list[dict[str, Any]], by: str) -> pd.DataFrame:
    """Rows as a frame, by the first column; the highest of `by` first, missing values last.

    Example:
        >>> results_frame([{"trial": "a", "ndcg": 0.1}, {"trial": "b", "ndcg": 0.2}], "ndcg").index
        Index(['b', 'a'], dtype='str', name='trial')
    """
    frame = pd.DataFrame(rows)
    frame = frame.set_index(frame.columns[0])
    return frame.sort_values(by, ascending=False, na_position="last", kind="stable")


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame, its index included, as people read them: to four decimals.

    Example:
        >>> rows_of(pd.DataFrame({"ndcg": [0.123456]}, index=pd.Index(["lstm"], name="model")))
        [{'model': 'lstm', 'ndcg': 0.1235}]
    """
    # Missing values as None: JSON knows no NaN.
    rounded = frame.reset_index().round(4).astype(object)
    rows = rounded.where(rounded.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def print_table(frame: pd.DataFrame, title: str) -> None:
    """Print a frame to standard output: text to the left, numbers to the right, four decimals."""
    # Piped into a file or a program, a table is as wide as it needs to be.
    console = Console() if Console().is_terminal else Console(width=200)
    # Apart from the table, which would wrap it to its own width.
    console.print(Text(title), soft_wrap=True)
    wide = console.width >= _WIDE
    padding = (0, 1) if wide else 0
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=padding)
    # As Text, since a title such as "[rec] (2007)" would be taken for markup.
    for name in frame:
        # On a narrow screen "NDCG@10" takes two lines, so that nine metrics fit uncut.
        heading = str(name) if wide else str(name).replace("@", "\n@")
        is_number = pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(Text(heading), justify="right" if is_number else "left")
    for row in frame.itertuples(index=False):
        table.add_row(*(Text(f"{x:.4f}" if isinstance(x, float) else str(x)) for x in row))
    console.print(table)
