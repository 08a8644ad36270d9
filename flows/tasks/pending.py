"""Runs that wait for MLflow: kept in `mlflow/pending`, and sent once it answers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from prefect import get_run_logger

from flows.orchestration import io_task
from flows.settings import Settings
from flows.tasks.registry import log_model, release, save
from flows.tasks.stages import INTERACTIONS, Trained
from recsys import tracking
from recsys.data import Split, load_interactions, save_interactions
from recsys.errors import NetworkError, TrackingError
from recsys.evaluation import Report, Verdict, read_report, write_report
from recsys.storage import read_arrays, read_json, write_arrays, write_json, writing
from recsys.tracking import Run

_ASSIGNMENT, _REPORT, _TRAINING = "assignment.npz", "report", "training.json"


class Sent(NamedTuple):
    """A run that is in MLflow."""

    run_id: str
    verdict: Verdict | None = None
    """The decision about its model; None if it has none, or the model is known already."""


@io_task("keep for sync", timeout_seconds=3600)
def keep(bundle: Path, report: Report, split: Split, settings: Settings, run: Run) -> None:
    """Keep what is needed to register and judge the model of a run later."""
    folder = run.recorder.folder
    if folder is None:
        raise TrackingError(f"run {run.run_id} has no folder in which it could wait for MLflow")
    with writing(folder):
        shutil.copytree(bundle, folder / tracking.BUNDLE)
    save_interactions(split.interactions if split.log is None else split.log, folder / INTERACTIONS)
    write_arrays(folder / _ASSIGNMENT, assignment=split.assignment)
    write_report(report, folder / _REPORT)
    # Last: a folder with this file is complete.
    content = {"run": run.run_id, "settings": settings.model_dump(mode="json")}
    write_json(folder / _TRAINING, content)


def register_and_promote(trained: Trained, settings: Settings, run: Run) -> Verdict | None:
    """Save and register a bundle, and make it champion if the promotion rule allows.

    Returns None if MLflow does not answer; then everything is kept for `send`.
    """
    report, split = trained.reports["validation"], trained.split
    with tempfile.TemporaryDirectory() as folder:
        bundle = save(trained, settings, run, Path(folder))
        if run.pending is None:
            try:
                log_model(bundle, run)
                return release(report, split, settings, run)
            except NetworkError as error:
                run.recorder.defer(error)
        keep(bundle, report, split, settings, run)
    return None


def send(folder: Path, *, replace_champion: bool = False) -> Sent | None:
    """Send a run, register its model, judge it against the champion and remove the folder.

    Returns None if the training did not end; what it recorded is sent all the same.

    Raises:
        NetworkError: the store does not answer. The folder stays, and can be sent again.
        DataError: the champion is of another catalogue. The folder stays, too.
    """
    return _release(folder, tracking.replay(folder), replace_champion=replace_champion)


def _release(
    folder: Path, run_ids: Mapping[str, str], *, replace_champion: bool = False
) -> Sent | None:
    sent = None
    if (folder / _TRAINING).exists():
        content = read_json(folder / _TRAINING)
        run = tracking.open_run(run_ids.get(content["run"], content["run"]))
        verdict = None
        settings = Settings.model_validate(content["settings"])
        if replace_champion:
            settings = settings.model_copy(update={"replace_champion": True})
        # An earlier attempt, which was interrupted, may have promoted it.
        champion = tracking.find_champion(settings.model_name)
        if champion is None or champion.run_id != run.run_id:
            split = _read_split(folder, settings)
            log_model(folder / tracking.BUNDLE, run)
            report = read_report(folder / _REPORT, split, "validation")
            verdict = release(report, split, settings, run)
        sent = Sent(run.run_id, verdict)
    shutil.rmtree(folder)
    return sent


def _read_split(folder: Path, settings: Settings) -> Split:
    interactions = load_interactions(folder / INTERACTIONS)
    split = settings.data.split.apply(interactions)
    split = split.with_filters(settings.data.filters.fingerprint())
    return replace(split, assignment=read_arrays(folder / _ASSIGNMENT)["assignment"])


def send_if_pending(run: Run, verdict: Verdict | None = None) -> Sent:
    """At the end of a run: send what waits of it, if the store answers again."""
    run_id, folder = run.run_id, run.pending
    if folder is None:
        return Sent(run_id, verdict)
    try:
        run_ids = tracking.replay(folder)
        sent = _release(folder, run_ids)
    except NetworkError as error:
        message = "%s. What was trained waits in %s: run `recsys sync` later."
        get_run_logger().warning(message, error, folder)
        return Sent(run_id, verdict)
    return sent or Sent(run_ids.get(run_id, run_id), verdict)
