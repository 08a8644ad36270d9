"""Update the model with new ratings: a challenger, promoted if it beats the champion."""

from __future__ import annotations

import sys

from prefect import get_run_logger
from prefect.events import emit_event

from flows.cli import main
from flows.orchestration import (
    create_markdown,
    flow_parameters,
    pipeline_flow,
    record_settings,
    training_lock,
    training_run,
)
from flows.settings import Settings
from flows.tasks.data import drop_leaked_targets, input_hash, read, resolve_source
from flows.tasks.evaluation import compare
from flows.tasks.pending import register_and_promote, send_if_pending
from flows.tasks.registry import find_champion, require_comparable
from flows.tasks.stages import Champion, fit_stages
from flows.train import STAGES, train
from recsys import tracking
from recsys.cooccurrence import CooccurrenceConfig
from recsys.embeddings import EmbeddingConfig


@pipeline_flow(*train.parameters.properties, "warm_start")
def refresh(settings: Settings) -> str | None:
    """Train a challenger, starting from the champion; returns the id of the MLflow run.

    Returns None, and trains nothing, if the ratings have not changed. The exception is a model that
    was not promoted: another promotion rule judges it again. If there is no champion, one is
    trained from scratch. The settings `cooccurrence`, `embeddings` and `session_model` apply only
    to that first training: a challenger has those of the champion.
    """
    source, settings = resolve_source(settings)
    with training_lock():  # a run that this one has waited for may have promoted another model
        champion = find_champion(settings)
        if champion is not None:
            return _challenge(champion, source, settings)
    run_id = train(**flow_parameters(train, settings))
    return _finish(settings, "promoted", run_id)


def _challenge(champion: Champion, source: str, settings: Settings) -> str | None:
    """Train a challenger, unless nothing has changed that could make it champion."""
    inputs = input_hash(source, settings)
    is_champion = champion.inputs == inputs
    if known := tracking.find_by_inputs(inputs):
        run_id, rule = known
        if is_champion or rule in (None, settings.promotion.model_dump_json()):
            _report_no_change(source, settings, run_id, is_champion)
            return None
        message = "No new ratings in %s since run %s, but another promotion rule: training again."
        get_run_logger().info(message, source, run_id)
    if is_champion and champion.run_id is not None:
        get_run_logger().info("Run %s stopped after its model was promoted.", champion.run_id)
        tracking.finish_run(champion.run_id)
        return _finish(settings, "promoted", champion.run_id)
    with training_run("refresh", source, settings, "warm_start", "runtime", "promotion") as run:
        tracking.tag_inputs(run, inputs, settings.promotion)
        settings = _with_champion_settings(settings, champion)
        record_settings(run, settings, *STAGES, "warm_start")
        split = read(source, settings.data, run)
        require_comparable(champion, split, settings)
        if champion.learned is not None:
            split = drop_leaked_targets(split, champion.learned, run)
        trained = fit_stages(split, settings, run, champion, baselines=["popularity"])
        model = settings.session_model.cell
        compare({model: trained.reports, **trained.baselines}, model, split, run)
        verdict = register_and_promote(trained, settings, run)
    run_id, verdict = send_if_pending(run, verdict)
    outcome = "waiting" if verdict is None else "promoted" if verdict.promoted else "rejected"
    return _finish(settings, outcome, run_id)


def _report_no_change(source: str, settings: Settings, run_id: str, is_champion: bool) -> None:
    reason = (
        ", whose model is not the champion: its description has the decision. Other ratings or "
        "another rule in [promotion] are a new attempt"
    )
    message = f"No new ratings in {source} since run {run_id}{'' if is_champion else reason}."
    get_run_logger().info("%s", message)
    create_markdown("decision", f"{settings.model_name}: no change", message)
    _finish(settings, "no_change", run_id)


def _with_champion_settings(settings: Settings, champion: Champion) -> Settings:
    bundle, warm_start = champion.bundle, dict(settings.warm_start)
    embeddings = bundle.config.get("embeddings", {"dim": bundle.embeddings.dim})
    include_user_histories = settings.include_user_histories
    if include_user_histories is None:
        include_user_histories = bundle.user_histories is not None
    return settings.model_copy(
        update={
            "cooccurrence": CooccurrenceConfig.model_validate(bundle.config["cooccurrence"]),
            "embeddings": EmbeddingConfig.model_validate(embeddings),
            "session_model": bundle.session_model.config.model_copy(update=warm_start),
            "include_user_histories": include_user_histories,
        }
    )


def _finish(settings: Settings, outcome: str, run_id: str) -> str:
    """Emit the event that starts other flows.

    Prefect's own is fifteen minutes late if a schedule started the flow.
    """
    model = f"recsys.model.{settings.model_name}"
    resource = {"prefect.resource.id": model, "recsys.outcome": outcome}
    emit_event("recsys.refresh.finished", resource, payload={"outcome": outcome, "run_id": run_id})
    return run_id


if __name__ == "__main__":
    main(["refresh", *sys.argv[1:]])
