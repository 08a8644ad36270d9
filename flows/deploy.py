"""Bring `prefect.yaml` to the server: `python -m flows.deploy`, as often as one likes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.schemas.automations import AutomationCore

AUTOMATIONS = Path(__file__).with_name("automations.yaml")


def deploy(file: Path) -> None:
    """Make the work pool, the deployments and the automations, or bring them up to date."""
    _prefect("work-pool", "create", "recsys", "--type", "process", "--overwrite")
    _prefect("deploy", "--all", "--prefect-file", str(file))
    replace_automations()


def replace_automations() -> None:
    """Bring the automations to the server, in place of those that are there."""
    with get_client(sync_client=True) as client:
        for automation in yaml.safe_load(AUTOMATIONS.read_text())["automations"]:
            replace_automation(client, automation)


def replace_automation(client: SyncPrefectClient, described: dict[str, Any]) -> None:
    """Make an automation, in place of one of the same name."""
    for known in client.read_automations_by_name(described["name"]):
        client.delete_automation(known.id)
    client.create_automation(AutomationCore.model_validate(described))


def _prefect(*arguments: str) -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    subprocess.run(command, check=True)  # noqa: S603 - a command of our own


def main(
    file: Annotated[Path, typer.Option(help="The deployments.")] = Path("prefect.yaml"),
) -> None:
    """Bring the deployments to the server that PREFECT_API_URL names."""
    deploy(file)


if __name__ == "__main__":
    typer.run(main)
