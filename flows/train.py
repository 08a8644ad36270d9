"""The whole line, once: ratings in; a compared, registered, usable recommender out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from prefect import flow

from flows.settings import read_settings
from flows.steps.data import find_data, inputs_of, read
from flows.steps.models import LSTM, compare, learn_sessions, try_baseline
from flows.steps.release import find_champion, release, save
from flows.steps.report import report
from flows.steps.vectors import count, embed
from flows.telling import report_failure
from flows.terminal import one_server, told_plainly
from flows.turns import sole_training
from recsys import tracking
from recsys.baselines import default_baselines
from recsys.config import Runtime
from recsys.cooccurrence import CooccurrenceConfig
from recsys.data import DataConfig
from recsys.embeddings import EmbeddingConfig
from recsys.recommender.bundle import make_bundle
from recsys.sessions import SessionConfig


@flow(
    name="train",
    on_failure=[report_failure],
    on_crashed=[report_failure],
    on_cancellation=[report_failure],
)
def train(
    data: str | None = None,
    reading: DataConfig = DataConfig(),
    counting: CooccurrenceConfig = CooccurrenceConfig(),
    embedding: EmbeddingConfig = EmbeddingConfig(),
    session: SessionConfig = SessionConfig(),
    runtime: Runtime = Runtime(),
    histories: bool | None = None,
    experiment: str | None = None,
    model_name: str = "recsys",
) -> str:
    """Train, evaluate and register a recommender; gives back the id of the MLflow run.

    Args:
        data: a folder or file of ratings; None takes MovieLens latest-small, downloaded
            if need be, or a synthetic sample where there is no network.
        reading: how the ratings are read, checked, filtered and split.
        counting: what counts as liked.
        embedding: the co-occurrence embeddings.
        session: the LSTM.
        runtime: device, precision, seed and threads.
        histories: keep the users' histories in the bundle, for `recommend_user`. They are personal
            data: by default they are left out.
        experiment: where in MLflow to record the run; None names it by data and protocol.
        model_name: the registered model; one name per catalogue.
    """
    source = find_data(data)
    stages = {"counting": counting, "embedding": embedding, "session": session, "runtime": runtime}
    name = tracking.run_name("train", stages)
    place = experiment or tracking.experiment_name(source, reading)
    with sole_training(), tracking.start_run(name, place) as run:
        tracking.tag_inputs(run, inputs_of(source, reading, model_name))
        run.log_config(reading=reading, **stages)
        split = read(source, reading, run)
        counts = count(split, counting, run)
        embeddings = embed(counts, counting, split, embedding, runtime, run)
        model, reports = learn_sessions(split, embeddings, session, runtime, run)
        by_model = {LSTM: reports}
        by_model |= {
            name: try_baseline(name, split, embeddings, runtime, run)
            for name in default_baselines(split.train)
        }
        compare(by_model, run)
        report(by_model, split, run)
        bundle = make_bundle(
            split.interactions.catalogue,
            embeddings,
            model,
            {"counting": counting, "embedding": embedding},
            reports,
            counts=counts,
            histories=split.interactions if histories else None,
        )
        save(bundle, run)
        release(model, reports["validation"], find_champion(model_name), split, model_name, run)
    return run.run_id


def main(
    data: Annotated[str | None, typer.Option(help="A folder or file of ratings.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML with tables [reading], [counting], [embedding], [session], [runtime]."
        ),
    ] = None,
) -> None:
    """Train, evaluate and register a recommender."""
    with told_plainly():
        settings = read_settings(config)
        with one_server():
            train(data=data, **settings.of_train())


if __name__ == "__main__":
    typer.run(main)
