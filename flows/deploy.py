"""Create or update the work pool, deployments and automations: `python -m flows.deploy`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from prefect.client.orchestration import get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import PREFECT_API_URL

from flows.cli import friendly_errors, prefect_api
from flows.settings import Settings, read_settings
from recsys.config import MODEL_NAME
from recsys.data.detection import detect_layout

AUTOMATIONS = Path(__file__).with_name("automations.yaml")


def configure(deployments: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Add the settings of a file to the parameters of every deployment whose flow has them.

    Parameters that a deployment has of its own take precedence. The names of deployments begin with
    that of the model, unless it is the default: those of another model would be replaced otherwise.
    """
    given = settings.model_dump(mode="json", exclude_unset=True)
    for deployment in deployments["deployments"]:
        known = load_flow_from_entrypoint(deployment["entrypoint"]).parameters.properties
        parameters = {name: value for name, value in given.items() if name in known}
        deployment["parameters"] = parameters | (deployment.get("parameters") or {})
        if settings.model_name != MODEL_NAME:
            deployment["name"] = f"{settings.model_name}-{deployment['name']}"
    return deployments


def summarize(deployments: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The full name of each deployment, and when it runs."""
    for deployment in deployments["deployments"]:
        flow = load_flow_from_entrypoint(deployment["entrypoint"]).name
        when = [
            f"{schedule['cron']} ({schedule.get('timezone', 'UTC')})"
            if "cron" in schedule
            else f"every {schedule['interval']} s"
            for schedule in deployment.get("schedules") or ()
        ]
        events = [f"on {e}" for each in deployment.get("triggers") or () for e in each["expect"]]
        yield f"{flow}/{deployment['name']}", ", ".join([*when, *events]) or "on request"


def folders(names: Iterable[str]) -> dict[str, str]:
    """The folders in which the server's deployments of these names run."""
    found = {}
    with get_client(sync_client=True) as client:
        for name in names:
            with suppress(ObjectNotFound):
                for step in client.read_deployment_by_name(name).pull_steps or ():
                    for options in step.values():
                        found[name] = str(options.get("directory"))
    return found


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
    with friendly_errors():
        settings = read_settings(config, {"source": source} if source else {})
        if settings.source is not None:
            detect_layout(Path(settings.source), settings.data)
        deployments = configure(yaml.safe_load(file.read_text()), settings)
        with prefect_api():
            deploy(deployments)


def deploy(deployments: dict[str, Any]) -> None:
    """Create or update deployments and automations, and print what was deployed."""
    runs = dict(summarize(deployments))
    before = folders(runs)
    call_prefect("work-pool", "create", "recsys", "--type", "process", "--overwrite")
    with tempfile.TemporaryDirectory() as folder:
        configured = Path(folder) / "prefect.yaml"
        configured.write_text(yaml.safe_dump(deployments))
        call_prefect("deploy", "--all", "--prefect-file", str(configured))
    for automation in yaml.safe_load(AUTOMATIONS.read_text())["automations"]:
        replace_automation(automation)
    for name, when in runs.items():
        typer.echo(f"{name:24} {when}")
    for name, path in before.items():
        if Path(path).resolve() != Path.cwd():
            typer.echo(
                f"warning: {name} ran in {path}, and now runs here; see docs/how-to/operate.md"
            )
    url = str(PREFECT_API_URL.value()).rstrip("/")
    port = re.fullmatch(r"http://127\.0\.0\.1:(?!4200/)(\d+)/api", url)  # of `make server`
    worker = f"make worker PREFECT_PORT={port[1]}" if port else "make worker"
    typer.echo(f"Deployed to {url}. `{worker}` runs what is due.")
    typer.echo(f"To run one at once: `prefect deployment run {next(iter(runs))} --watch`")


def call_prefect(*arguments: str) -> None:
    """Run a command of Prefect, whose output is shown only if it fails."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    environment = {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())}
    done = subprocess.run(  # noqa: S603
        command, env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        sys.stderr.buffer.write(done.stdout)
        sys.exit(f"error: `prefect {arguments[0]}` failed: its output above says why")


if __name__ == "__main__":
    typer.run(main)
