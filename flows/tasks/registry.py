"""The bundle: saved, registered, and promoted if it beats the champion."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from prefect import get_run_logger

from flows.cache import cache_path
from flows.orchestration import create_markdown, io_task, run_link
from flows.settings import Settings
from flows.tasks.data import is_sample
from flows.tasks.stages import INTERACTIONS, Champion, Trained
from recsys import columns, tracking
from recsys.config import CHAMPION, CHAMPION_ALIAS
from recsys.console import printable
from recsys.data import Interactions, Split, load_interactions
from recsys.data.catalogue import require_same_catalogue
from recsys.errors import BundleError, DataError, NetworkError, TrackingError
from recsys.evaluation import Report, Verdict, measure_latency, promote_if_better
from recsys.loading import load_recommender
from recsys.recommender import Recommender
from recsys.recommender.bundle import Bundle, make_bundle, save_bundle
from recsys.recommender.scoring import ItemScorer
from recsys.tracking import Run

_UNKNOWN = "Cannot determine whether the champion was trained on the validation targets"
_CONSEQUENCE = (
    "If it was, its metrics are too high, and a better challenger may not be promoted. A champion "
    "trained from now on records its data."
)


@io_task("find champion", timeout_seconds=600)
def find_champion(settings: Settings) -> Champion | None:
    """The champion; None if there is none, or if it is to be replaced without a comparison.

    A champion of the synthetic sample is replaced by one of other data.

    Raises:
        BundleError: it cannot be loaded, which does not mean that there is none.
    """
    name, log = settings.model_name, get_run_logger()
    found = tracking.find_champion(name)
    if found is None:
        return None
    is_stand_in = is_sample(found.source) and not is_sample(settings.source)
    if settings.replace_champion or is_stand_in:
        log.warning(
            "The champion, version %s of %s, is replaced by any model.", found.version, name
        )
        return None
    try:
        bundle = load_recommender(f"models:/{name}/{found.version}").bundle
    except (BundleError, TrackingError) as error:
        raise BundleError(
            f"the champion, version {found.version} of {name!r}, cannot be loaded: {error}; "
            "restore it, or replace it by setting `replace_champion` (--replace-champion)"
        ) from error
    learned, counts = None, found.params.get("counts")
    try:
        learned = load_interactions(cache_path("counts", counts) / INTERACTIONS) if counts else None
        reason = "its run recorded no counts"
    except BundleError as error:
        reason = str(error)
    if learned is None:
        log.warning("%s: %s. %s", _UNKNOWN, reason, _CONSEQUENCE)
    return Champion(found.version, bundle, counts, learned, found.run_id, found.inputs)


def require_comparable(champion: Champion | None, split: Split, settings: Settings) -> None:
    """Raise a `DataError` if the champion cannot be evaluated on the data.

    It is of another catalogue, or one of the two repeats items and the other does not.
    """
    if champion is None:
        return
    try:
        _require_same_kind(champion.bundle, split.interactions)
    except DataError as error:
        raise DataError(
            f"the champion, version {champion.version} of {settings.model_name!r}: {error}; train "
            "under another name by setting `model_name`, or replace the champion by setting "
            "`replace_champion` (--replace-champion)"
        ) from error


def _require_same_kind(model: Bundle, data: Interactions) -> None:
    require_same_catalogue(model.catalogue, data.catalogue)
    if model.weights.repeats != data.repeats:
        does, does_not = ("data", "model") if data.repeats else ("model", "data")
        raise DataError(f"the {does} repeats items of the history, and the {does_not} does not")


def find_reachable_champion(settings: Settings) -> Champion | None:
    """The champion; None also if MLflow does not answer: `release` looks for it again."""
    try:
        return find_champion(settings)
    except NetworkError as error:
        get_run_logger().warning("%s. The training does not need it, and goes on.", error)
        return None


def release(report: Report, split: Split, settings: Settings, run: Run) -> Verdict:
    """Register the bundle of a run, and make it champion if the promotion rule allows."""
    name, rule = settings.model_name, settings.promotion
    new = load_recommender(f"runs:/{run.run_id}")  # what cannot be loaded is not registered
    present = learned = latency = None
    champion = find_champion(settings)  # another one may have been promoted in the meantime
    require_comparable(champion, split, settings)
    if champion is not None:
        bundle, learned = champion.bundle, champion.learned
        present = ItemScorer(bundle.embeddings, bundle.weights), bundle.catalogue
    if rule.latency_budget_ms is not None:
        ids = new.bundle.items.ids
        latency = measure_latency(
            lambda history: new.next_items(ids[history].tolist()), split.histories("validation")
        )
    verdict = promote_if_better(report, present, split, rule, learned=learned, latency_ms=latency)
    version = register(verdict, name, run)
    get_run_logger().info("%s version %s: %s", name, version, verdict)
    uri = f"models:/{name}@{CHAMPION_ALIAS}" if verdict.promoted else f"models:/{name}/{version}"
    get_run_logger().info("Ask it: %s", example_query(new, uri))
    create_markdown(
        "decision",
        f"{name} version {version}: {'promoted' if verdict.promoted else 'not promoted'}",
        str(verdict),
        *([f"{_UNKNOWN}. {_CONSEQUENCE}"] if champion and learned is None else []),
        f"Previous champion: {champion.version if champion else 'none'}. Run: {run_link(run)}",
    )
    return verdict


def example_query(model: Recommender, uri: str) -> str:
    """A command that asks a model what follows its most popular item."""
    titles = model.bundle.catalogue[columns.TITLE]
    item_id, title = model.popular_items(1)[[columns.ITEM_ID, columns.TITLE]].iloc[0]
    item = str(title if (titles == title).sum() == 1 else item_id)
    # `make run` does not activate the virtual environment.
    local = os.path.relpath(Path(sys.executable).with_name("recsys"))
    command = ["recsys" if shutil.which("recsys") else local, "next"]
    command += [] if uri == CHAMPION else ["--model", uri]
    command += ["--", item] if item.startswith("-") else [item]
    return printable(shlex.join(command))


@io_task("save bundle", timeout_seconds=1800)
def save(trained: Trained, settings: Settings, run: Run, folder: Path) -> Path:
    """Write the bundle to a new folder."""
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
        sample=trained.split.histories("validation"),
        trained_at=datetime.now(UTC),
    )
    if search := bundle.metrics.get("search"):
        run.log_metrics({f"search_{name}": value for name, value in search.items()})
        if bundle.clusters is None:
            get_run_logger().warning(
                "Clusters find only %.1f %% of the ten best items: answers score all items.",
                100 * search["recall_at_10"],
            )
    return save_bundle(bundle, folder / tracking.BUNDLE)


@io_task("log model", timeout_seconds=1800)
def log_model(bundle: Path, run: Run) -> None:
    """Store a bundle with its run."""
    tracking.log_bundle(run, bundle)


@io_task("register model", timeout_seconds=600)
def register(verdict: Verdict, model_name: str, run: Run) -> str:
    """Register the bundle of a run, and set the champion alias if it was promoted."""
    run.flush()  # whatever happens after the promotion, its figures are recorded
    version = tracking.register(run, model_name, str(verdict))
    if verdict.promoted:
        tracking.promote(run, model_name, version)
    return version
