"""The run as a page to read."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.tasks.training import LSTM, Reports
from recsys import tracking
from recsys.data import Split
from recsys.reporting import report_page
from recsys.tracking import Run


@task(cache_policy=NO_CACHE, task_run_name="report")
def report(by_model: dict[str, Reports], split: Split, run: Run) -> None:
    """Lay out results, learning curves and a few users' lists on one page."""
    page = report_page(
        {name: reports["test"] for name, reports in by_model.items()},
        split,
        reference=LSTM,
        curves=tracking.learning_curves(run),
    )
    run.log_html(page, "report")
