"""The whole line, once: ratings in; a compared, registered, usable recommender out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from prefect import flow

from flows.artifacts import report_failure
from flows.cli import friendly_errors, prefect_api
from flows.locking import training_lock
from flows.settings import read_settings
from flows.tasks.data import input_hash, read, resolve_source
from flows.tasks.evaluation import report
from flows.tasks.features import count, embed
from flows.tasks.registry import find_champion, release, save
from flows.tasks.training import LSTM, compare, evaluate_baseline, train_session_model
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
    source: str | None = None,
    data: DataConfig = DataConfig(),
    cooccurrence: CooccurrenceConfig = CooccurrenceConfig(),
    embeddings: EmbeddingConfig = EmbeddingConfig(),
    session_model: SessionConfig = SessionConfig(),
    runtime: Runtime = Runtime(),
    include_user_histories: bool | None = None,
    experiment: str | None = None,
    model_name: str = "recsys",
) -> str:
    """Train, evaluate and register a recommender; gives back the id of the MLflow run.

    Args:
        source: a folder or file of ratings; None takes MovieLens latest-small, downloaded
            if need be, or a synthetic sample where there is no network.
        data: how the ratings are read, checked, filtered and split.
        cooccurrence: what counts as liked.
        embeddings: the co-occurrence embeddings.
        session_model: the LSTM.
        runtime: device, precision, seed and threads.
        include_user_histories: keep the users' histories in the bundle, for `recommend_user`. They
            are personal data and are left out by default.
        experiment: where in MLflow to record the run; None names it by data and protocol.
        model_name: the registered model; one name per catalogue.
    """
    source = resolve_source(source)
    stages = {
        "cooccurrence": cooccurrence,
        "embeddings": embeddings,
        "session_model": session_model,
        "runtime": runtime,
    }
    name = tracking.run_name("train", stages)
    place = experiment or tracking.experiment_name(source, data)
    with training_lock(), tracking.start_run(name, place) as run:
        tracking.tag_inputs(run, input_hash(source, data, model_name))
        run.log_config(data=data, **stages)
        split = read(source, data, run)
        counts = count(split, cooccurrence, run)
        vectors = embed(counts, cooccurrence, split, embeddings, runtime, run)
        model, reports = train_session_model(split, vectors, session_model, runtime, run)
        by_model = {LSTM: reports}
        by_model |= {
            name: evaluate_baseline(name, split, vectors, runtime, run)
            for name in default_baselines(split.train)
        }
        compare(by_model, run)
        report(by_model, split, run)
        bundle = make_bundle(
            split.interactions.catalogue,
            vectors,
            model,
            {"cooccurrence": cooccurrence, "embeddings": embeddings},
            reports,
            cooccurrence=counts,
            interactions=split.interactions if include_user_histories else None,
        )
        save(bundle, run)
        release(model, reports["validation"], find_champion(model_name), split, model_name, run)
    return run.run_id


def main(
    source: Annotated[str | None, typer.Option(help="A folder or file of ratings.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML with tables [data], [cooccurrence], [embeddings],[session_model], [runtime]."
        ),
    ] = None,
) -> None:
    """Train, evaluate and register a recommender."""
    with friendly_errors():
        settings = read_settings(config)
        with prefect_api():
            train(source=source, **settings.of_train())


if __name__ == "__main__":
    typer.run(main)
