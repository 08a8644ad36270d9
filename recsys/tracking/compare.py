"""Recorded runs: found by id, name or model, compared, and their report pages."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pandas as pd
from mlflow import MlflowClient, artifacts
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from recsys.data import Subset
from recsys.errors import DataError, TrackingError
from recsys.evaluation import significance_table
from recsys.evaluation.metrics import METRICS
from recsys.evaluation.report import FINGERPRINT, TOP_K, require_comparable
from recsys.storage import atomic_file
from recsys.tracking.gc import pages
from recsys.tracking.store import model_run

REPORT = "report.html"
_MIN_PREFIX = 4
_SHORT = 8


@dataclass(frozen=True)
class RunComparison:
    """Recorded runs, compared with the first of them. Columns of tables are the runs' labels."""

    runs: pd.DataFrame
    """By label: `name`, `experiment`, `status`, `started` (UTC) and `run_id`."""
    parameters: pd.DataFrame
    """The parameters that differ, by name; missing ones are empty."""
    metrics: pd.DataFrame
    """Means over users (of a session split, over targets), by name."""
    differences: pd.DataFrame
    """Paired differences to the first run: `metric`, `run`, `difference`, the 95% interval (`low`,
    `high`) and `p`, adjusted for the number of runs."""
    same_protocol: bool
    """Whether the metrics are of the same targets, ranked in the same way."""
    notes: list[str]
    """What cannot be compared, and why."""


def find_run(client: MlflowClient, name: str) -> MlflowRun:
    """Find a run by its id, the beginning of its id, its name, or the URI of its model.

    A child run is found by its id only, unless no other run has the name.

    Raises:
        TrackingError: there is no such run, or more than one.
    """
    if name.startswith("models:/"):
        name = model_run(client, name)
    name = name.removeprefix("runs:/").strip("/")
    with suppress(MlflowException):
        exact: MlflowRun = client.get_run(name)
        return exact
    experiments = [found.experiment_id for found in pages(client.search_experiments)]
    runs: list[MlflowRun] = list(pages(client.search_runs, experiments)) if experiments else []
    is_prefix = len(name) >= _MIN_PREFIX
    by_id = [run for run in runs if is_prefix and run.info.run_id.startswith(name.lower())]
    named = [run for run in runs if run.info.run_name == name]
    parents = [run for run in named if MLFLOW_PARENT_RUN_ID not in run.data.tags]
    matches = by_id or parents or named
    if len(matches) == 1:
        return matches[0]
    if not matches:
        raise TrackingError(
            f"no run has the id or name {name!r}: `make ui` shows the runs; a model is given as "
            "models:/<name>@<alias>"
        )
    listed = ", ".join(f"{run.info.run_id[:12]} ({run.info.run_name})" for run in matches[:5])
    more = ", …" if len(matches) > 5 else ""
    raise TrackingError(f"{name!r} is {len(matches):,} runs: use an id, {listed}{more}")


def compare_runs(
    client: MlflowClient, names: Sequence[str], subset: Subset = "test"
) -> RunComparison:
    """Compare recorded runs: parameters, metrics and, where stored, the ranks of every user.

    Args:
        client: the store.
        names: the runs, as for `find_run`; the others are compared with the first.
        subset: the targets whose metrics and ranks are compared.

    Raises:
        TrackingError: a run is not found, or given twice.
    """
    found = [find_run(client, name) for name in names]
    runs = {run.info.run_id[:_SHORT]: run for run in found}
    if len(runs) < len(names):
        raise TrackingError(f"{', '.join(names)} are not different runs: each is compared once")
    ranks = {label: _ranks(client, run, subset) for label, run in runs.items()}
    differences, notes = _differences(ranks, subset)
    return RunComparison(
        pd.DataFrame([_describe(client, run) for run in found], index=[*runs]),
        _differing({label: run.data.params for label, run in runs.items()}),
        _metrics({label: run.data.metrics for label, run in runs.items()}, subset),
        differences,
        len({run.data.tags.get("protocol_fingerprint", run.info.run_id) for run in found}) == 1,
        notes,
    )


def report_path(client: MlflowClient, run: MlflowRun, folder: Path) -> Path:
    """Return the path of a run's report page, which is downloaded to a folder if it is not local.

    Raises:
        TrackingError: the run has none, or it cannot be read.
    """
    if not any(file.path == REPORT for file in client.list_artifacts(run.info.run_id)):
        raise TrackingError(
            f"run {run.info.run_id[:_SHORT]} ({run.info.run_name}) has no {REPORT}: a training "
            f"writes it when all models are compared; the run is {run.info.status}"
        )
    location = urlsplit(run.info.artifact_uri)
    if location.scheme in ("", "file"):
        return Path(url2pathname(location.path)) / REPORT
    target = folder / f"report-{run.info.run_id[:_SHORT]}.html"
    with tempfile.TemporaryDirectory() as temporary, atomic_file(target) as tmp_path:
        tmp_path.write_bytes(_download(client, run, REPORT, Path(temporary)).read_bytes())
    return target


def _describe(client: MlflowClient, run: MlflowRun) -> dict[str, Any]:
    info = run.info
    return {
        "name": info.run_name,
        "experiment": client.get_experiment(info.experiment_id).name,
        "status": info.status.lower(),
        "started": f"{datetime.fromtimestamp(info.start_time / 1000, UTC):%Y-%m-%d %H:%M}",
        "run_id": info.run_id,
    }


def _differing(parameters: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    table = pd.DataFrame(parameters, dtype=object).sort_index().fillna("")
    return table[table.ne(table.iloc[:, 0], axis=0).any(axis=1)].rename_axis("parameter")


def _metrics(metrics: Mapping[str, Mapping[str, float]], subset: Subset) -> pd.DataFrame:
    prefix = f"{subset}_"
    return pd.DataFrame(
        {
            label: {
                name.removeprefix(prefix): value
                for name, value in values.items()
                if name.startswith(prefix)
            }
            for label, values in metrics.items()
        },
        dtype="float64",
    ).rename_axis("metric")


def _differences(
    ranks: Mapping[str, pd.DataFrame | None], subset: Subset
) -> tuple[pd.DataFrame, list[str]]:
    """The paired differences of the comparable runs to the first, and why others are missing."""
    first = next(iter(ranks))
    notes: list[str] = []
    comparable: dict[str, pd.DataFrame] = {}
    for label, table in ranks.items():
        if table is None:
            notes.append(f"{label} has no ranks of {subset} targets: its metrics alone are shown")
            continue
        try:
            if first in comparable:
                pair = {first: comparable[first], label: table}
                require_comparable({name: x.attrs[FINGERPRINT] for name, x in pair.items()})
            comparable[label] = table
        except DataError as error:
            notes.append(str(error))
    if first not in comparable:
        return pd.DataFrame(), notes
    rows = [
        {"metric": f"{metric}_at_{TOP_K}", "run": run, **row[["difference", "low", "high"]]}
        | {"p": row["p_holm"]}
        for metric in METRICS
        for run, row in significance_table(first, comparable, metric, TOP_K).iterrows()
    ]
    return pd.DataFrame(rows), notes


def _ranks(client: MlflowClient, run: MlflowRun, subset: Subset) -> pd.DataFrame | None:
    path = f"ranks/{subset}.parquet"
    if not any(file.path == path for file in client.list_artifacts(run.info.run_id, "ranks")):
        return None
    with tempfile.TemporaryDirectory() as folder:
        table = pd.read_parquet(_download(client, run, path, Path(folder)))
    return table if FINGERPRINT in table.attrs else None


def _download(client: MlflowClient, run: MlflowRun, path: str, folder: Path) -> Path:
    try:
        downloaded = artifacts.download_artifacts(
            run_id=run.info.run_id,
            artifact_path=path,
            dst_path=str(folder),
            tracking_uri=client.tracking_uri,
        )
    except (MlflowException, OSError) as error:
        raise TrackingError(f"{path} of run {run.info.run_id} cannot be read: {error}") from error
    return Path(downloaded)
