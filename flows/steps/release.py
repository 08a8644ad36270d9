"""What came out: saved, registered, and the champion if it is better."""

from __future__ import annotations

import tempfile
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from recsys import tracking
from recsys.bundle import Bundle, save_bundle
from recsys.data import Split
from recsys.errors import BundleError, TrackingError
from recsys.evaluation import Report, Scorer, promote_if_better
from recsys.loading import load_recommender
from recsys.tracking import Run
from recsys.vocabulary import Vocabulary


@task(cache_policy=NO_CACHE, task_run_name="save")
def save(bundle: Bundle, run: Run) -> None:
    """Store the bundle with the run."""
    with tempfile.TemporaryDirectory() as folder:
        run.log_folder(save_bundle(bundle, Path(folder) / tracking.BUNDLE), tracking.BUNDLE)


@task(cache_policy=NO_CACHE, task_run_name="register")
def register(report: Report, split: Split, model_name: str, run: Run) -> str:
    """Register the bundle; make it champion if there is none or it surely beats the present one."""
    verdict = promote_if_better(report, present_champion(model_name, run), split)
    version = tracking.register(run, model_name, str(verdict))
    if verdict.promoted:
        tracking.promote(run, model_name, version)
    get_run_logger().info("%s version %s: %s", model_name, version, verdict)
    return version


def present_champion(model_name: str, run: Run) -> tuple[Scorer, Vocabulary] | None:
    """The model in use and the items that it knows; None where there is none to be read."""
    version = tracking.champion_version(run, model_name)
    if version is None:
        return None
    try:
        bundle = load_recommender(f"models:/{model_name}/{version}").bundle
    except (BundleError, TrackingError) as error:
        get_run_logger().warning("the champion, version %s, cannot be read: %s", version, error)
        return None
    return bundle.session_model, bundle.items
