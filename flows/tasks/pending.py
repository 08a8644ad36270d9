"""Runs that wait for MLflow: kept in `mlflow/pending`, and sent once it answers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from prefect import get_run_logger

from flows.orchestration import io_task
from flows.settings import Settings
from flows.tasks.registry import log_model, release, save
from flows.tasks.stages import INTERACTIONS, Trained
from recsys import tracking
from recsys.data import Split, load_interactions, save_interactions
from recsys.errors import NetworkError, TrackingError
from recsys.evaluation import Report, Verdict, read_report, write_report
from recsys.storage import (
    atomic_folder,
    read_arrays,
    verify_manifest,
    write_arrays,
    write_manifest,
)
from recsys.tracking import Run

_TRAINING = "training"
"""The folder of what is needed to register and judge a model. A run without it did not end."""

_ASSIGNMENT, _REPORT = "assignment.npz", "report"


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
    metadata: dict[str, Any] = {
        "run": run.run_id,
        "settings": settings.model_dump(mode="json"),
        "n_writes": tracking.count_writes(folder),
    }
    log = split.interactions if split.log is None else split.log
    with atomic_folder(folder / _TRAINING) as tmp_path:
        shutil.copytree(bundle, tmp_path / tracking.BUNDLE)
        save_interactions(log, tmp_path / INTERACTIONS)
        write_arrays(tmp_path / _ASSIGNMENT, assignment=split.assignment)
        write_report(report, tmp_path / _REPORT)
        write_manifest(tmp_path, **metadata)


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
        BundleError: a file of the folder is damaged; nothing was sent.
        TrackingError: the journal is damaged, likewise, or the store refuses a write.
    """
    training, run_ids = _replay(folder)
    return _release(folder, training, run_ids, replace_champion=replace_champion)


def _replay(folder: Path) -> tuple[Mapping[str, Any] | None, Mapping[str, str]]:
    """Send what a run recorded; returns the manifest of its training, if that ended, and run ids.

    Everything is verified first: nothing is sent of a damaged folder.
    """
    path = folder / _TRAINING
    training = verify_manifest(path) if path.exists() else None
    n_writes = 1 if training is None else training["n_writes"]
    return training, tracking.replay(folder, n_writes=n_writes)


def _release(
    folder: Path,
    training: Mapping[str, Any] | None,
    run_ids: Mapping[str, str],
    *,
    replace_champion: bool = False,
) -> Sent | None:
    sent = None
    if training is not None:
        run = tracking.open_run(run_ids.get(training["run"], training["run"]))
        settings = Settings.model_validate(training["settings"])
        if replace_champion:
            settings = settings.model_copy(update={"replace_champion": True})
        sent = Sent(run.run_id, _judge(folder / _TRAINING, settings, run))
    shutil.rmtree(folder.resolve())
    if folder.is_symlink():
        folder.unlink()
    return sent


def _judge(training: Path, settings: Settings, run: Run) -> Verdict | None:
    # An earlier attempt, which was interrupted, may have promoted it.
    champion = tracking.find_champion(settings.model_name)
    if champion is not None and champion.run_id == run.run_id:
        return None
    split = _read_split(training, settings)
    log_model(training / tracking.BUNDLE, run)
    report = read_report(training / _REPORT, split, "validation")
    return release(report, split, settings, run)


def _read_split(training: Path, settings: Settings) -> Split:
    interactions = load_interactions(training / INTERACTIONS)
    split = settings.data.split.apply(interactions)
    split = split.with_filters(settings.data.filters.fingerprint())
    return replace(split, assignment=read_arrays(training / _ASSIGNMENT)["assignment"])


def send_if_pending(run: Run, verdict: Verdict | None = None) -> Sent:
    """At the end of a run: send what waits of it, if the store answers again."""
    run_id, folder = run.run_id, run.pending
    if folder is None:
        return Sent(run_id, verdict)
    try:
        training, run_ids = _replay(folder)
        sent = _release(folder, training, run_ids)
    except NetworkError as error:
        message = "%s. What was trained waits in %s: run `recsys sync` later."
        get_run_logger().warning(message, error, folder)
        return Sent(run_id, verdict)
    return sent or Sent(run_ids.get(run_id, run_id), verdict)
