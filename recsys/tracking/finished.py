"""What has been done before: runs found again by what went into them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from mlflow.entities import Run as Recorded

from recsys.tracking.registry import champion_of
from recsys.tracking.runs import Run
from recsys.tracking.store import connect

_INPUTS = "recsys.inputs"
"""The tag with the digest of what went into a run."""


@dataclass(frozen=True)
class FinishedRun:
    """A run that came to its end."""

    run_id: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class ChampionVersion:
    """The version of a model that is in use, and what is known of the run that made it."""

    version: str
    params: Mapping[str, str]
    source: str | None = None
    """Where the ratings were that it learned from; None where that was not recorded."""


def find_champion(model_name: str) -> ChampionVersion | None:
    """The champion of a model; None if there is none."""
    client = connect(create=True)
    version = champion_of(client, model_name)
    if version is None:
        return None
    run_id = str(client.get_model_version(model_name, version).run_id)
    run = client.get_run(run_id)
    return ChampionVersion(version, dict(run.data.params), _source_of(run))


def _source_of(run: Recorded) -> str | None:
    recorded = run.inputs.dataset_inputs if run.inputs else []
    return str(json.loads(recorded[0].dataset.source)["uri"]) if recorded else None


def tag_inputs(run: Run, digest: str) -> None:
    """Record what goes into a run, for `find_by_inputs` to find it again.

    Args:
        run: the run.
        digest: of its data and settings; equal digests have equal results.
    """
    run.client.set_tag(run.run_id, _INPUTS, digest)


def find_by_inputs(digest: str) -> FinishedRun | None:
    """The latest finished run, of any experiment, that had these inputs; None if there is none."""
    client = connect(create=True)
    experiments = [one.experiment_id for one in client.search_experiments()]
    found: list[Recorded] = client.search_runs(
        experiments,
        f"attributes.status = 'FINISHED' and tags.`{_INPUTS}` = '{digest}'",
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    return FinishedRun(found[0].info.run_id, dict(found[0].data.metrics)) if found else None


def open_run(run_id: str) -> Run:
    """A run that someone else has begun, perhaps another process; it is theirs to end."""
    client = connect()
    return Run(client, client.get_run(run_id).info.experiment_id, run_id)
