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

from flows.places import counts_folder
from flows.settings import read_settings
from flows.steps.data import drop_leaked_targets, find_data, inputs_of, read
from flows.steps.models import Reports, learn_sessions
from flows.steps.release import Champion, find_champion, release, save
from flows.steps.vectors import COUNTED, count, embed
from flows.telling import report_failure, tell
from flows.terminal import one_server, told_plainly
from flows.train import train
from flows.turns import sole_training
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

    def session(self, champion: Champion) -> SessionConfig:
        """The champion's session model, trained on for so long."""
        return champion.bundle.session_model.config.model_copy(update=dict(self))


@flow(
    name="refresh",
    on_failure=[report_failure],
    on_crashed=[report_failure],
    on_cancellation=[report_failure],
)
def refresh(
    data: str | None = None,
    reading: DataConfig = DataConfig(),
    warm_start: WarmStart = WarmStart(),
    rule: PromotionRule = PromotionRule(),
    runtime: Runtime = Runtime(),
    histories: bool | None = None,
    experiment: str | None = None,
    model_name: str = "recsys",
) -> str | None:
    """Bring the model up to date with new ratings; gives back the id of the MLflow run.

    Nothing is done, and None given back, where these ratings have been learned from before. Where
    there is no champion yet, one is trained from the beginning.

    Args:
        data: a folder or file with all ratings, the new ones among them; None takes MovieLens
            latest-small.
        reading: how the ratings are read, checked, filtered and split.
        warm_start: how the challenger goes on from the champion.
        rule: what it has to show.
        runtime: device, precision, seed and threads.
        histories: keep the users' histories in the bundle; None does as the champion's does.
        experiment: where in MLflow to record the run; None names it by data and protocol.
        model_name: the registered model; one name per catalogue.
    """
    source = find_data(data)
    champion = find_champion(model_name)
    if champion is None:
        run_id = train(
            source,
            reading,
            runtime=runtime,
            histories=histories,
            experiment=experiment,
            model_name=model_name,
        )
        _announce(model_name, "promoted", run_id)
        return run_id
    inputs = inputs_of(source, reading, model_name)
    if known := tracking.find_by_inputs(inputs):
        get_run_logger().info("nothing new in %s since run %s", source, known.run_id)
        tell("decision", f"{model_name}: nothing new", f"`{source}` is what it was.")
        _announce(model_name, "unchanged", known.run_id)
        return None
    if histories is None:
        histories = champion.bundle.histories is not None
    name = tracking.run_name("refresh", {"warm_start": warm_start, "runtime": runtime})
    place = experiment or tracking.experiment_name(source, reading)
    with sole_training(), tracking.start_run(name, place) as run:
        tracking.tag_inputs(run, inputs)
        run.log_config(reading=reading, warm_start=warm_start, rule=rule, runtime=runtime)
        made = _challenger(champion, source, reading, warm_start, runtime, run)
        save(made.bundle(histories), run)
        report = made.reports["validation"]
        decision = release(made.model, report, champion, made.split, model_name, run, rule)
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
            counts=self.counts,
            histories=log if histories else None,
        )


def _challenger(
    champion: Champion,
    source: str,
    reading: DataConfig,
    warm_start: WarmStart,
    runtime: Runtime,
    run: tracking.Run,
) -> Challenger:
    """Go on from the champion with the ratings as they are now."""
    bundle, session = champion.bundle, warm_start.session(champion)
    counting = CooccurrenceConfig.model_validate(bundle.config["counting"])
    plain = {"dim": bundle.embeddings.dim}
    embedding = EmbeddingConfig.model_validate(bundle.config.get("embedding", plain))
    run.log_config(counting=counting, embedding=embedding, session=session)
    earlier = counts_folder(champion.counts) / COUNTED if champion.counts else None
    split = drop_leaked_targets(read(source, reading, run), earlier, run)
    counts = count(split, counting, run, earlier=champion.counts)
    vectors = embed(counts, counting, split, embedding, runtime, run, start=bundle.embeddings)
    model, reports = learn_sessions(
        split, vectors, session, runtime, run, start=bundle.session_model
    )
    run.log_reports(reports)
    configs = {"counting": counting, "embedding": embedding}
    return Challenger(split, counts, vectors, model, reports, configs)


def _announce(model_name: str, outcome: str, run_id: str) -> None:
    """Tell others what came of it, in an event that automations can wait for."""
    emit_event(
        FINISHED,
        resource={"prefect.resource.id": f"recsys.model.{model_name}", "recsys.outcome": outcome},
        payload={"outcome": outcome, "run_id": run_id},
    )


def main(
    data: Annotated[str | None, typer.Option(help="A folder or file of ratings.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML with tables [reading] and [runtime].")
    ] = None,
) -> None:
    """Bring the model up to date with new ratings."""
    with told_plainly():
        settings = read_settings(config)
        with one_server():
            refresh(
                data,
                settings.reading,
                runtime=settings.runtime,
                histories=settings.histories,
                experiment=settings.experiment,
                model_name=settings.model_name,
            )


if __name__ == "__main__":
    typer.run(main)
