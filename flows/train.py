"""Train from scratch: from ratings to an evaluated and registered recommender."""

from __future__ import annotations

import sys

from flows.cli import main
from flows.orchestration import pipeline_flow, training_lock, training_run
from flows.settings import Settings
from flows.tasks.data import input_hash, read, resolve_source
from flows.tasks.evaluation import compare
from flows.tasks.pending import register_and_promote, send_if_pending
from flows.tasks.registry import find_reachable_champion, require_comparable
from flows.tasks.stages import fit_stages
from recsys import tracking
from recsys.baselines import default_baselines

STAGES = ("session_model", "embeddings", "cooccurrence", "runtime", "promotion")
"""The stages with settings, those that are changed most often first."""


@pipeline_flow(
    *("source", *STAGES, "cluster", "replace_champion", "include_user_histories"),
    *("experiment", "model_name", "data"),
)
def train(settings: Settings) -> str:
    """Train, evaluate and register a recommender; returns the id of the MLflow run.

    If MLflow does not answer, everything is kept in `mlflow/pending` for the flow `sync`.
    """
    source, settings = resolve_source(settings)
    with training_lock():
        champion = find_reachable_champion(settings)  # before the training, which takes long
        with training_run("train", source, settings, *STAGES) as run:
            tracking.tag_inputs(run, input_hash(source, settings), settings.promotion)
            split = read(source, settings.data, run)
            require_comparable(champion, split, settings)
            baselines = default_baselines(split.train)
            trained = fit_stages(split, settings, run, baselines=baselines)
            model = settings.session_model.cell
            compare({model: trained.reports, **trained.baselines}, model, split, run)
            verdict = register_and_promote(trained, settings, run)
        return send_if_pending(run, verdict).run_id


if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
