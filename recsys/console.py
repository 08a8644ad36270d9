"""Tables and progress bars for the terminal."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from recsys.callbacks import EpochCallback, History, compose, no_op

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def _print_to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def progress_bar(
    description: str,
    epochs: int,
    metric: str,
    *,
    print_line: Callable[[str], object] | None = _print_to_stderr,
) -> Iterator[EpochCallback]:
    """Show progress on standard error: a bar on a terminal, else one line per epoch.

    Args:
        description: what is running.
        epochs: number of calls until the bar is full.
        metric: the metric to show.
        print_line: called with a line per epoch where standard error is not a terminal, at most
            once per second if there are more than 100 epochs; None prints no lines.

    Yields:
        An `on_epoch(epoch, metrics)` to pass to a fit.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        if print_line is None:
            yield no_op
            return
        show = _epoch_lines(description, epochs, metric, print_line)
        history = History()
        yield compose(show, history)
        if 0 < (last := max(history.epochs, default=0)) < epochs:
            print_line(f"{description}: finished early, after epoch {last}/{epochs}")
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as bar:
        task = bar.add_task(description, total=epochs, note="")

        def on_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
            bar.update(task, completed=epoch, note=_metric_text(metric, metrics))

        yield on_epoch
        # A fit that converged early is complete, too.
        bar.update(task, completed=epochs)


def _metric_text(metric: str, metrics: Mapping[str, float]) -> str:
    if metric not in metrics:
        return ""
    error = metrics.get(f"{metric}_standard_error")
    return f"{metric} {metrics[metric]:.4g}" + ("" if error is None else f" ± {error:.1g}")


def _epoch_lines(
    description: str, epochs: int, metric: str, print_line: Callable[[str], object]
) -> EpochCallback:
    """Prints each epoch with its metric, its speed if it is known, and the estimated time left.

    The estimate is the duration of the latest epoch times the number of epochs left. Many short
    epochs have none at first, because the first one includes the setup.
    """
    latest = printed = time.monotonic()

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
        nonlocal latest, printed
        now = time.monotonic()
        left = timedelta(seconds=round((now - latest) * (epochs - epoch)))
        latest = now
        if epochs > 100 and epoch < epochs and now - printed < 1.0:
            return
        printed = now
        parts = [f"{description}: epoch {epoch}/{epochs}", _metric_text(metric, metrics)]
        if "interactions_per_second" in metrics:
            parts.append(f"{metrics['interactions_per_second']:,.0f} interactions/s")
        if epoch > 1 or epochs <= 100:
            parts.append(f"{left} left")
        print_line(", ".join(filter(None, parts)))

    return on_epoch


def results_frame(rows: list[dict[str, Any]], by: str) -> pd.DataFrame:
    """Return rows as a frame indexed by the first column, sorted by `by`, highest first.

    Missing values are last.
    """
    frame = pd.DataFrame(rows)
    return frame.set_index(frame.columns[0]).sort_values(by, ascending=False, kind="stable")


def to_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame and its index as dicts, rounded to four decimals, for JSON.

    Example:
        >>> to_records(pd.DataFrame({"ndcg": [0.123456]}, index=pd.Index(["lstm"], name="model")))
        [{'model': 'lstm', 'ndcg': 0.1235}]
    """
    # JSON has no NaN.
    rounded = frame.reset_index().round(4).astype(object)
    rows = rounded.where(rounded.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


class _Output(Console):
    def on_broken_pipe(self) -> None:
        """Raise the `BrokenPipeError`; rich would end the program, and with it a training."""
        raise  # noqa: PLE0704 – it is being handled


def output_console() -> Console:
    """The terminal; in a file or pipe, the width is not limited to that of a terminal."""
    console = _Output()
    return console if console.is_terminal else _Output(width=200)


def printable(text: str, replace: Callable[[re.Match[str]], str] = lambda _: "\ufffd") -> str:
    """Replace control characters, which a terminal would obey, and those that reorder text."""
    return _CONTROL.sub(replace, text)


def print_table(frame: pd.DataFrame, title: str, decimals: int = 4) -> None:
    """Print a frame to standard output, with numbers right-aligned and rounded to some decimals."""
    console = output_console()
    # Not as the title of the table, which would wrap it to the table's width.
    console.print(Text(printable(title)), soft_wrap=True)
    wide = console.width >= 110  # else "NDCG@10" takes two lines, so that nine metrics fit
    padding = (0, 1) if wide else 0
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=padding)
    # Text, because rich would interpret a title such as "[rec] (2007)" as markup.
    for name in frame:
        heading = printable(str(name) if wide else str(name).replace("@", "\n@"))
        is_number = pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(Text(heading), justify="right" if is_number else "left")
    for row in frame.itertuples(index=False):
        cells = (
            _number_text(x, decimals) if isinstance(x, float) else printable(str(x)) for x in row
        )
        table.add_row(*map(Text, cells))
    console.print(table)


def _number_text(value: float, decimals: int) -> str:
    """Some decimals, or two significant digits for a value that would be shown as zero."""
    return f"{value:.1e}" if 0 < abs(value) < 0.5 * 10**-decimals else f"{value:.{decimals}f}"
