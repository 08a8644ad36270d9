"""The bundle: saved, registered, and promoted if it beats the champion."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.orchestration import create_markdown, io_task, run_link
from flows.settings import Settings
from flows.tasks.training import Trained
from recsys import tracking
from recsys.errors import BundleError, TrackingError
from recsys.evaluation import PromotionRule, Verdict, measure_latency, promote_if_better
from recsys.loading import load_recommender
from recsys.recommender.bundle import Bundle, make_bundle, save_bundle
from recsys.tracking import Run


@dataclass(frozen=True)
class Champion:
    """The registered model in use."""

    version: str
    bundle: Bundle
    counts: str | None
    """The cache key of its counts."""


@io_task("find champion", timeout_seconds=600)
def find_champion(model_name: str) -> Champion | None:
    """The champion; None if there is none, or if it cannot be loaded."""
    found = tracking.find_champion(model_name)
    if found is None:
        return None
    try:
        bundle = load_recommender(f"models:/{model_name}/{found.version}").bundle
    except (BundleError, TrackingError) as error:
        log = get_run_logger()
        log.warning("The champion, version %s, cannot be loaded: %s", found.version, error)
        return None
    return Champion(found.version, bundle, found.params.get("counts"))


def register_and_promote(
    trained: Trained, champion: Champion | None, settings: Settings, run: Run
) -> Verdict:
    """Save and register a bundle, and make it champion if the promotion rule allows."""
    name = settings.model_name
    save(trained, bool(settings.include_user_histories), run)
    verdict = decide_promotion(trained, champion, settings.promotion)
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
def save(trained: Trained, include_user_histories: bool, run: Run) -> None:
    """Store the bundle with the run."""
    interactions = trained.split.interactions
    bundle = make_bundle(
        interactions.catalogue,
        trained.embeddings,
        trained.model,
        trained.configs,
        trained.reports,
        cooccurrence=trained.counts,
        interactions=interactions if include_user_histories else None,
    )
    with tempfile.TemporaryDirectory() as folder:
        tracking.log_bundle(run, save_bundle(bundle, Path(folder) / tracking.BUNDLE))


@task(cache_policy=NO_CACHE, task_run_name="decide promotion")
def decide_promotion(trained: Trained, champion: Champion | None, rule: PromotionRule) -> Verdict:
    """Compare the new model with the champion on the same validation targets."""
    present = None
    if champion is not None:
        present = champion.bundle.session_model, champion.bundle.items
    latency = None
    if rule.latency_budget_ms is not None:
        latency = measure_latency(trained.model, trained.split.histories("validation"))
    report = trained.reports["validation"]
    return promote_if_better(report, present, trained.split, rule, latency_ms=latency)


@io_task("register model", timeout_seconds=600)
def register(verdict: Verdict, model_name: str, run: Run) -> str:
    """Register the bundle of a run, and set the champion alias if it was promoted."""
    version = tracking.register(run, model_name, str(verdict))
    if verdict.promoted:
        tracking.promote(run, model_name, version)
    return version
