"""Trials of a sweep, each in any process: told by names and digests what it needs."""

from __future__ import annotations

import time

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.digests import digest_of, program_digest
from flows.grid import Trial
from flows.orphans import end_with_parent
from flows.places import checkpoint_folder, interactions_folder
from flows.robust import TRAINING
from recsys import tracking
from recsys.baselines import MeanEmbeddingConfig, fit_mean_embedding
from recsys.config import Config, Runtime
from recsys.cooccurrence import CooccurrenceConfig, count_cooccurrence
from recsys.data import DataConfig, Split, load_interactions, save_interactions
from recsys.embeddings import EmbeddingConfig, fit_embeddings, ppmi_embeddings
from recsys.evaluation import Scorer, evaluate
from recsys.sessions import SessionConfig, fit_session_model
from recsys.tracking import Run


class Material(Config):
    """What all trials of a sweep learn from, by name."""

    data: str
    """The digest of the interactions, which lie in `data/work/interactions`."""
    reading: DataConfig
    counting: CooccurrenceConfig

    def split(self) -> Split:
        """The data, and what is held back of it."""
        interactions = load_interactions(interactions_folder(self.data))
        split = self.reading.split.apply(interactions)
        return split.filtered_by(self.reading.filters.facts())


@task(cache_policy=NO_CACHE, task_run_name="keep data")
def keep_material(
    split: Split, reading: DataConfig, counting: CooccurrenceConfig, run: Run
) -> Material:
    """Put the interactions where every trial finds them."""
    digest = split.interactions.digest
    save_interactions(split.interactions, interactions_folder(digest))
    run.log_params({"data": digest})
    return Material(data=digest, reading=reading, counting=counting)


def trial_digest(trial: Trial, material: Material, runtime: Runtime) -> str:
    """What tells one trial from another: all that its outcome depends on."""
    seed, precision = runtime.seed, runtime.torch_precision()
    return digest_of(
        kind=type(trial.config).__name__,
        trial=trial.config,
        material=material,
        seed=seed,
        precision=precision,
        program=program_digest(),
    )


@task(cache_policy=NO_CACHE, task_run_name="{trial.name}", tags=[TRAINING])
def try_out(digest: str, trial: Trial, material: Material, runtime: Runtime, parent: str) -> None:
    """Fit what a trial asks for and judge it on the validation targets."""
    end_with_parent()
    split = material.split()
    with tracking.open_run(parent).child(trial.name) as stage:
        tracking.tag_inputs(stage, digest)
        stage.log_config(runtime=runtime)
        began = time.perf_counter()
        if isinstance(trial.config, EmbeddingConfig):
            model = _embeddings(split, trial.config, material.counting, runtime, stage)
        else:
            model = _sessions(split, trial.config, runtime, stage, digest)
        stage.log_metrics({"seconds": time.perf_counter() - began})
        stage.log_reports({"validation": evaluate(model, split, "validation")})


def _embeddings(
    split: Split,
    config: EmbeddingConfig,
    counting: CooccurrenceConfig,
    runtime: Runtime,
    stage: Run,
) -> Scorer:
    """Judged by the mean of the vectors watched last."""
    stage.log_config(embedding=config)
    counts = count_cooccurrence(split.train, counting.min_rating, window=counting.window)
    fitted = fit_embeddings(counts, config, runtime=runtime, on_epoch=stage.on_epoch)
    if fitted.loss_ratio is not None:
        stage.log_metrics({"loss_ratio": fitted.loss_ratio})
    return fit_mean_embedding(fitted.vectors, MeanEmbeddingConfig())


def _sessions(
    split: Split, config: SessionConfig, runtime: Runtime, stage: Run, digest: str
) -> Scorer:
    """Goes on after its latest epoch where it was broken off."""
    config = config.resolve(len(split.train))
    stage.log_config(session=config)
    return fit_session_model(
        split.train,
        config,
        item_embeddings=ppmi_embeddings(split.train, config.embedding_dim or 64, runtime=runtime),
        runtime=runtime,
        on_epoch=stage.on_epoch,
        validate=lambda model: evaluate(model, split, "validation").metrics,
        checkpoint=checkpoint_folder(digest),
    )
