"""The bundle: saved, registered, and promoted if it beats the champion."""

from __future__ import annotations

import tempfile
from pathlib import Path

from prefect import get_run_logger

from flows.orchestration import create_markdown, io_task, run_link
from flows.settings import Settings
from flows.tasks.stages import Champion, Trained
from recsys import tracking
from recsys.errors import BundleError, TrackingError
from recsys.evaluation import Verdict, measure_latency, promote_if_better
from recsys.loading import load_recommender
from recsys.recommender.bundle import make_bundle, save_bundle
from recsys.recommender.scoring import ItemScorer
from recsys.sessions import from_torch
from recsys.tracking import Run


@io_task("find champion", timeout_seconds=600)
def find_champion(model_name: str) -> Champion | None:
    """The champion; None if there is none, or if it cannot be loaded."""
    found = tracking.find_champion(model_name)
    if found is None:
        return None
    try:
        bundle = load_recommender(f"models:/{model_name}/{found.version}").bundle
    except (BundleError, TrackingError) as error:
        message = "The champion, version %s, cannot be loaded: %s"
        get_run_logger().warning(message, found.version, error)
        return None
    return Champion(found.version, bundle, found.params.get("counts"))


def register_and_promote(
    trained: Trained, champion: Champion | None, settings: Settings, run: Run
) -> Verdict:
    """Save and register a bundle, and make it champion if the promotion rule allows."""
    name, rule, split = settings.model_name, settings.promotion, trained.split
    save(trained, settings, run)
    present = latency = None
    if champion is not None:
        bundle = champion.bundle
        present = ItemScorer(bundle.embeddings, bundle.weights), bundle.catalogue
    if rule.latency_budget_ms is not None:
        served = ItemScorer(trained.embeddings, from_torch(trained.model))
        latency = measure_latency(served, split.histories("validation"))
    report = trained.reports["validation"]
    verdict = promote_if_better(report, present, split, rule, latency_ms=latency)
    version = register(verdict, name, run)
    get_run_logger().info("%s version %s: %s", name, version, verdict)
    create_markdown(
        "decision",
        f"{name} version {version}: {'promoted' if verdict.promoted else 'not promoted'}",
        str(verdict),
        f"Previous champion: {champion.version if champion else 'none'}. Run: {run_link(run)}",
    )
    return verdict


@io_task("save bundle", timeout_seconds=1800)
def save(trained: Trained, settings: Settings, run: Run) -> None:
    """Store the bundle with the run."""
    interactions = trained.split.interactions
    counting = settings.cooccurrence.resolve(trained.split.train)
    configs = {"cooccurrence": counting, "embeddings": settings.embeddings}
    bundle = make_bundle(
        interactions.catalogue,
        trained.embeddings,
        trained.model,
        configs,
        trained.reports,
        cooccurrence=trained.counts,
        interactions=interactions if settings.include_user_histories else None,
    )
    with tempfile.TemporaryDirectory() as folder:
        tracking.log_bundle(run, save_bundle(bundle, Path(folder) / tracking.BUNDLE))


@io_task("register model", timeout_seconds=600)
def register(verdict: Verdict, model_name: str, run: Run) -> str:
    """Register the bundle of a run, and set the champion alias if it was promoted."""
    version = tracking.register(run, model_name, str(verdict))
    if verdict.promoted:
        tracking.promote(run, model_name, version)
    return version
