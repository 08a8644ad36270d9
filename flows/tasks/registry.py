"""What came out: saved, registered, and the champion if it is better."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.artifacts import run_link, tell
from flows.retries import io_task
from recsys import tracking
from recsys.data import Split
from recsys.errors import BundleError, TrackingError
from recsys.evaluation import (
    PromotionRule,
    Report,
    Scorer,
    Verdict,
    measure_latency,
    promote_if_better,
)
from recsys.loading import load_recommender
from recsys.recommender.bundle import Bundle, save_bundle
from recsys.tracking import Run


@dataclass(frozen=True)
class Champion:
    """The model in use."""

    version: str
    bundle: Bundle
    counts: str | None
    """The digest of the counts that it was made of."""


@dataclass(frozen=True)
class Decision:
    """What became of a new version, and why."""

    version: str
    verdict: Verdict


@io_task("find champion", timeout_seconds=600)
def find_champion(model_name: str) -> Champion | None:
    """The model in use; None where there is none that can be read."""
    found = tracking.find_champion(model_name)
    if found is None:
        return None
    try:
        bundle = load_recommender(f"models:/{model_name}/{found.version}").bundle
    except (BundleError, TrackingError) as error:
        log = get_run_logger()
        log.warning("the champion, version %s, cannot be read: %s", found.version, error)
        return None
    return Champion(found.version, bundle, found.params.get("counts"))


@io_task("save", timeout_seconds=1800)
def save(bundle: Bundle, run: Run) -> None:
    """Store the bundle with the run."""
    with tempfile.TemporaryDirectory() as folder:
        tracking.log_bundle(run, save_bundle(bundle, Path(folder) / tracking.BUNDLE))


def release(
    model: Scorer,
    report: Report,
    champion: Champion | None,
    split: Split,
    model_name: str,
    run: Run,
    rule: PromotionRule = PromotionRule(),
) -> Decision:
    """Register the saved bundle; make it champion if there is none or it surely beats it."""
    verdict = decide_promotion(champion, model, report, split, rule)
    decision = Decision(register(verdict, model_name, run), verdict)
    get_run_logger().info("%s version %s: %s", model_name, decision.version, verdict)
    outcome = "promoted" if verdict.promoted else "not promoted"
    tell(
        "decision",
        f"{model_name} version {decision.version}: {outcome}",
        str(verdict),
        f"Champion before: {champion.version if champion else 'none'}. Run: {run_link(run)}",
    )
    return decision


@task(cache_policy=NO_CACHE, task_run_name="compare with the champion")
def decide_promotion(
    champion: Champion | None, model: Scorer, report: Report, split: Split, rule: PromotionRule
) -> Verdict:
    """Whether the new model is better than the one in use by more than chance explains."""
    present = None
    if champion is not None:
        present = champion.bundle.session_model, champion.bundle.items
    latency = None
    if rule.latency_budget_ms is not None:
        latency = measure_latency(model, split.histories("validation"))
    return promote_if_better(report, present, split, rule, latency_ms=latency)


@io_task("register", timeout_seconds=600)
def register(verdict: Verdict, model_name: str, run: Run) -> str:
    """Register the bundle of a run, and make it champion if it was promoted."""
    version = tracking.register(run, model_name, str(verdict))
    if verdict.promoted:
        tracking.promote(run, model_name, version)
    return version
