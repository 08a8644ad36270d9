"""Train from scratch: from ratings to an evaluated and registered recommender."""

from __future__ import annotations

import sys

from flows.cli import main
from flows.orchestration import pipeline_flow, training_run
from flows.settings import Settings
from flows.tasks.data import input_hash, read, resolve_source
from flows.tasks.features import count, embed
from flows.tasks.registry import Champion, find_champion, register_and_promote
from flows.tasks.training import Reports, Trained, compare, evaluate_baseline, train_session_model
from recsys import tracking
from recsys.baselines import default_baselines
from recsys.data import Split

STAGES = ("cooccurrence", "embeddings", "session_model", "runtime", "promotion")


@pipeline_flow(
    "source", "data", *STAGES, "include_user_histories", "experiment", "model_name"
)  # fmt: skip
def train(settings: Settings) -> str:
    """Train, evaluate and register a recommender; returns the id of the MLflow run."""
    source = resolve_source(settings.source)
    with training_run("train", source, settings, *STAGES) as run:
        tracking.tag_inputs(run, input_hash(source, settings))
        split = read(source, settings.data, run)
        trained = fit_stages(split, settings, run)
        model = settings.session_model.cell
        by_model: dict[str, Reports] = {model: trained.reports}
        for name in default_baselines(split.train):
            by_model[name] = evaluate_baseline(
                name, split, trained.embeddings, settings.runtime, run
            )
        compare(by_model, model, split, run)
        register_and_promote(trained, find_champion(settings.model_name), settings, run)
    return run.run_id


def fit_stages(
    split: Split, settings: Settings, run: tracking.Run, champion: Champion | None = None
) -> Trained:
    """Count, embed and train the session model, from scratch or starting from the champion."""
    earlier = champion.counts if champion else None
    start = champion.bundle if champion else None
    counts = count(split, settings.cooccurrence, run, earlier)
    embeddings = embed(counts, split, settings, run, start.embeddings if start else None)
    model, reports = train_session_model(
        split, embeddings, settings, run, start.session_model if start else None
    )
    configs = {"cooccurrence": settings.cooccurrence, "embeddings": settings.embeddings}
    return Trained(split, counts, embeddings, model, reports, configs)


if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
