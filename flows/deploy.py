"""Create or update the work pool, deployments and automations: `python -m flows.deploy`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from prefect.client.orchestration import get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.flows import load_flow_from_entrypoint

from flows.cli import friendly_errors
from flows.settings import Settings, read_settings
from recsys.data.detection import detect_layout

AUTOMATIONS = Path(__file__).with_name("automations.yaml")


def configure(deployments: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Add the settings of a file to the parameters of every deployment whose flow has them.

    Parameters that a deployment has of its own take precedence.
    """
    given = settings.model_dump(mode="json", exclude_unset=True)
    for deployment in deployments["deployments"]:
        known = load_flow_from_entrypoint(deployment["entrypoint"]).parameters.properties
        parameters = {name: value for name, value in given.items() if name in known}
        deployment["parameters"] = parameters | (deployment.get("parameters") or {})
    return deployments


def replace_automation(description: dict[str, Any]) -> None:
    """Create an automation in place of one of the same name."""
    with get_client(sync_client=True) as client:
        for known in client.read_automations_by_name(description["name"]):
            client.delete_automation(known.id)
        client.create_automation(AutomationCore.model_validate(description))


def main(
    file: Annotated[Path, typer.Option(help="The deployments.")] = Path("prefect.yaml"),
    config: Annotated[Path | None, typer.Option(help="Settings of all deployments.")] = None,
    source: Annotated[str | None, typer.Option(help="Ratings; else those of the champion.")] = None,
) -> None:
    """Deploy to the server that PREFECT_API_URL names."""
    prefect = [sys.executable, "-m", "prefect", "--no-prompt"]
    pool = ["work-pool", "create", "recsys", "--type", "process", "--overwrite"]
    with friendly_errors(), tempfile.TemporaryDirectory() as folder:
        settings = read_settings(config, {"source": source} if source else {})
        if settings.source is not None:
            detect_layout(Path(settings.source), settings.data)
        deployments = configure(yaml.safe_load(file.read_text()), settings)
        configured = Path(folder) / "prefect.yaml"
        configured.write_text(yaml.safe_dump(deployments))
        for command in (pool, ["deploy", "--all", "--prefect-file", str(configured)]):
            if subprocess.run([*prefect, *command], check=False).returncode:  # noqa: S603
                sys.exit(f"error: `prefect {command[0]}` failed: its output above says why")
    for automation in yaml.safe_load(AUTOMATIONS.read_text())["automations"]:
        replace_automation(automation)


if __name__ == "__main__":
    typer.run(main)
