"""What people find in Prefect's UI: tables, decisions, how far a training is, what went wrong."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID

from prefect import Flow
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import FlowRun, State

from recsys.callbacks import EpochCallback, compose
from recsys.console import progress_bar
from recsys.tracking import Run

UI = "RECSYS_MLFLOW_UI"
"""The environment variable with the address of MLflow's UI, where that is not the store itself."""

_AGAIN_SECONDS = 2.0
"""How often a progress artifact is brought up to date, at most."""


def run_link(run: Run) -> str:
    """A run in MLflow's UI, as Markdown; its id alone where no UI is known."""
    address = os.environ.get(UI) or run.client.tracking_uri
    if not address.startswith("http"):
        return f"`{run.run_id}`"
    page = f"{address.rstrip('/')}/#/experiments/{run.experiment_id}/runs/{run.run_id}"
    return f"[{run.run_id[:8]}]({page})"


def tell(key: str, title: str, *paragraphs: str) -> None:
    """Leave a Markdown artifact with the run.

    Args:
        key: its name in Prefect, in small letters and dashes.
        title: its heading.
        *paragraphs: what it says.
    """
    create_markdown_artifact(key=key, markdown="\n\n".join([f"# {title}", *paragraphs]))


def markdown_list(facts: Mapping[str, Any]) -> str:
    """Names and values, as a Markdown list."""
    return "\n".join(f"- **{name}**: {value}" for name, value in facts.items())


@contextmanager
def progress(description: str, epochs: int, metric: str) -> Iterator[EpochCallback]:
    """Show how far a training is, on the terminal and in Prefect.

    Args:
        description: what is being waited for.
        epochs: how many there are at most.
        metric: which of the metrics to show beside the bar.

    Yields:
        An `on_epoch` to hand to a fit.
    """
    identifier = cast("UUID", create_progress_artifact(0.0, description=description))
    told = time.monotonic()

    def on_epoch(epoch: int, _metrics: Mapping[str, float]) -> None:
        nonlocal told
        if time.monotonic() - told > _AGAIN_SECONDS:
            update_progress_artifact(identifier, 100 * epoch / epochs)
            told = time.monotonic()

    with progress_bar(description, epochs, metric) as advance:
        yield compose(advance, on_epoch)
    update_progress_artifact(identifier, 100.0)


def report_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Leave an artifact that says what went wrong, with what, and how to go on.

    For `on_failure`, `on_crashed` and `on_cancellation`; the last two may be called by the worker,
    where there is no run to be in.
    """
    facts = {
        "run": flow_run.name,
        "state": state.name,
        "began": flow_run.start_time or flow_run.expected_start_time,
        "parameters": f"`{flow_run.parameters}`",
    }
    reason = state.message or "no reason is known"
    text = "\n\n".join(
        [f"# {flow.name}: {state.name}", f"> {reason}", markdown_list(facts), _HOW_TO_GO_ON]
    )
    artifact = ArtifactCreate(
        type="markdown",
        key="failure",
        description=f"{flow.name} {state.name}",
        data=text,
        flow_run_id=flow_run.id,
    )
    with get_client(sync_client=True) as client:
        client.create_artifact(artifact)


_HOW_TO_GO_ON = (
    "Start it again with the same parameters (*Retry* here, or `prefect deployment run`): what was "
    "counted is not counted again, and a training goes on after its latest epoch. Nothing that is "
    "in use was changed. `docs/operations.md` tells more."
)
