"""New ratings in; a challenger against the champion; promoted if it is surely better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from prefect import flow, get_run_logger
from prefect.events import emit_event
from pydantic import Field

from flows.artifacts import report_failure, tell
from flows.cli import friendly_errors, prefect_api
from flows.locking import training_lock
from flows.paths import counts_dir
from flows.settings import read_settings
from flows.tasks.data import drop_leaked_targets, input_hash, read, resolve_source
from flows.tasks.features import INTERACTIONS, count, embed
from flows.tasks.registry import Champion, find_champion, release, save
from flows.tasks.training import Reports, train_session_model
from flows.train import train
from recsys import tracking
from recsys.config import Config, Runtime
from recsys.cooccurrence import Cooccurrence, CooccurrenceConfig
from recsys.data import DataConfig, Split
from recsys.embeddings import EmbeddingConfig, ItemEmbeddings
from recsys.evaluation import PromotionRule
from recsys.recommender.bundle import Bundle, make_bundle
from recsys.sessions import SessionConfig, SessionModel

FINISHED = "recsys.refresh.finished"
"""The event by which other flows learn of it. Prefect's own event of a completed flow reaches
automations a quarter of an hour late where the flow was started by a schedule."""


class WarmStart(Config):
    """How a challenger goes on from the champion."""

    epochs: int = Field(default=4, ge=1)
    """Passes of the LSTM over all watches: fewer than from the beginning."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak rate: lower than from the beginning, or what was learned is lost again."""

    def session_config(self, champion: Champion) -> SessionConfig:
        """The champion's session model, trained on for so long."""
        return champion.bundle.session_model.config.model_copy(update=dict(self))


@flow(
    name="refresh",
    on_failure=[report_failure],
    on_crashed=[report_failure],
    on_cancellation=[report_failure],
)
def refresh(
    source: str | None = None,
    data: DataConfig = DataConfig(),
    warm_start: WarmStart = WarmStart(),
    promotion: PromotionRule = PromotionRule(),
    runtime: Runtime = Runtime(),
    include_user_histories: bool | None = None,
    experiment: str | None = None,
    model_name: str = "recsys",
) -> str | None:
    """Bring the model up to date with new ratings; gives back the id of the MLflow run.

    Nothing is done, and None given back, where these ratings have been learned from before. Where
    there is no champion yet, one is trained from the beginning.

    Args:
        source: a folder or file with all ratings, the new ones among them; None takes MovieLens
            latest-small.
        data: how the ratings are read, checked, filtered and split.
        warm_start: how the challenger goes on from the champion.
        promotion: what it has to show.
        runtime: device, precision, seed and threads.
        include_user_histories: keep the users' histories in the bundle; None does as the
            champion's does.
        experiment: where in MLflow to record the run; None names it by data and protocol.
        model_name: the registered model; one name per catalogue.
    """
    source = resolve_source(source)
    champion = find_champion(model_name)
    if champion is None:
        run_id = train(
            source,
            data,
            runtime=runtime,
            include_user_histories=include_user_histories,
            experiment=experiment,
            model_name=model_name,
        )
        _announce(model_name, "promoted", run_id)
        return run_id
    inputs = input_hash(source, data, model_name)
    if known := tracking.find_by_inputs(inputs):
        get_run_logger().info("nothing new in %s since run %s", source, known.run_id)
        tell("decision", f"{model_name}: nothing new", f"`{source}` is what it was.")
        _announce(model_name, "unchanged", known.run_id)
        return None
    if include_user_histories is None:
        include_user_histories = champion.bundle.user_histories is not None
    name = tracking.run_name("refresh", {"warm_start": warm_start, "runtime": runtime})
    place = experiment or tracking.experiment_name(source, data)
    with training_lock(), tracking.start_run(name, place) as run:
        tracking.tag_inputs(run, inputs)
        run.log_config(data=data, warm_start=warm_start, promotion=promotion, runtime=runtime)
        made = _challenger(champion, source, data, warm_start, runtime, run)
        save(made.bundle(include_user_histories), run)
        report = made.reports["validation"]
        decision = release(made.model, report, champion, made.split, model_name, run, promotion)
    _announce(model_name, "promoted" if decision.verdict.promoted else "kept", run.run_id)
    return run.run_id


@dataclass(frozen=True)
class Challenger:
    """What might be the next champion, and what it is made of."""

    split: Split
    counts: Cooccurrence
    embeddings: ItemEmbeddings
    model: SessionModel
    reports: Reports
    configs: Mapping[str, Config]

    def bundle(self, histories: bool) -> Bundle:
        """For use, with the users' histories or without."""
        log = self.split.interactions
        return make_bundle(
            log.catalogue,
            self.embeddings,
            self.model,
            self.configs,
            self.reports,
            cooccurrence=self.counts,
            interactions=log if histories else None,
        )


def _challenger(
    champion: Champion,
    source: str,
    data: DataConfig,
    warm_start: WarmStart,
    runtime: Runtime,
    run: tracking.Run,
) -> Challenger:
    """Go on from the champion with the ratings as they are now."""
    bundle, session_model = champion.bundle, warm_start.session_config(champion)
    cooccurrence = CooccurrenceConfig.model_validate(bundle.config["cooccurrence"])
    plain = {"dim": bundle.embeddings.dim}
    embeddings = EmbeddingConfig.model_validate(bundle.config.get("embeddings", plain))
    run.log_config(cooccurrence=cooccurrence, embeddings=embeddings, session_model=session_model)
    earlier = counts_dir(champion.counts) / INTERACTIONS if champion.counts else None
    split = drop_leaked_targets(read(source, data, run), earlier, run)
    counts = count(split, cooccurrence, run, earlier=champion.counts)
    vectors = embed(counts, cooccurrence, split, embeddings, runtime, run, start=bundle.embeddings)
    model, reports = train_session_model(
        split, vectors, session_model, runtime, run, start=bundle.session_model
    )
    run.log_reports(reports)
    configs = {"cooccurrence": cooccurrence, "embeddings": embeddings}
    return Challenger(split, counts, vectors, model, reports, configs)


def _announce(model_name: str, outcome: str, run_id: str) -> None:
    """Tell others what came of it, in an event that automations can wait for."""
    emit_event(
        FINISHED,
        resource={"prefect.resource.id": f"recsys.model.{model_name}", "recsys.outcome": outcome},
        payload={"outcome": outcome, "run_id": run_id},
    )


def main(
    source: Annotated[str | None, typer.Option(help="A folder or file of ratings.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML with tables [data] and [runtime].")
    ] = None,
) -> None:
    """Bring the model up to date with new ratings."""
    with friendly_errors():
        settings = read_settings(config)
        with prefect_api():
            refresh(
                source,
                settings.data,
                runtime=settings.runtime,
                include_user_histories=settings.include_user_histories,
                experiment=settings.experiment,
                model_name=settings.model_name,
            )


if __name__ == "__main__":
    typer.run(main)
