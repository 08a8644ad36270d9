"""Run the schedules of `prefect.yaml` without a worker: `python -m flows.serve`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from prefect import Flow, serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.flows import load_flow_from_entrypoint
from prefect.schedules import Schedule

from flows.deploy import replace_automations


def deployments_of(file: Path) -> list[RunnerDeployment]:
    """What a file in the form of `prefect.yaml` describes, but for the work pools."""
    return [_deployment(one) for one in yaml.safe_load(file.read_text())["deployments"]]


def environment_of(file: Path) -> dict[str, str]:
    """The environment that the work pools of a file give to their runs."""
    environment: dict[str, str] = {}
    for one in yaml.safe_load(file.read_text())["deployments"]:
        environment |= one["work_pool"]["job_variables"]["env"]
    return environment


def _deployment(described: dict[str, Any]) -> RunnerDeployment:
    flow: Flow[..., Any] = load_flow_from_entrypoint(described["entrypoint"])
    limit = described.get("concurrency_limit")
    return flow.to_deployment(  # type: ignore[return-value]  # nothing to await outside of a loop
        name=described["name"],
        description=described.get("description"),
        schedules=[Schedule(**schedule) for schedule in described.get("schedules", [])],
        triggers=described.get("triggers"),
        concurrency_limit=limit and ConcurrencyLimitConfig(**limit),
        parameters=described.get("parameters"),
    )


def main(
    file: Annotated[Path, typer.Option(help="The deployments.")] = Path("prefect.yaml"),
    limit: Annotated[int, typer.Option(help="How many runs at once.")] = 2,
) -> None:
    """Run the schedules until Ctrl-C, which pauses them."""
    # Its runs inherit what a worker would give them: the heartbeat, by whose silence the
    # automations know a run that has ended without saying so.
    for name, value in environment_of(file).items():
        os.environ.setdefault(name, value)
    replace_automations()
    serve(*deployments_of(file), limit=limit)


if __name__ == "__main__":
    typer.run(main)
