"""Trials of a sweep, each in any process: told by names and digests what it needs."""

from __future__ import annotations

import time

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.cache_keys import cache_key, source_hash
from flows.paths import checkpoint_dir, interactions_dir
from flows.process_pool import exit_with_parent
from flows.retries import TRAINING
from flows.search_space import Trial
from recsys import tracking
from recsys.baselines import MeanEmbeddingConfig, fit_mean_embedding
from recsys.config import Config, Runtime
from recsys.cooccurrence import CooccurrenceConfig, count_cooccurrence
from recsys.data import DataConfig, Split, load_interactions, save_interactions
from recsys.embeddings import EmbeddingConfig, fit_embeddings, ppmi_embeddings
from recsys.evaluation import Scorer, evaluate
from recsys.sessions import SessionConfig, fit_session_model
from recsys.tracking import Run


class SweepInputs(Config):
    """What all trials of a sweep learn from, by name."""

    interactions: str
    """The digest of the interactions, which lie in `data/cache/interactions`."""
    data: DataConfig
    cooccurrence: CooccurrenceConfig

    def split(self) -> Split:
        """The data, and what is held back of it."""
        interactions = load_interactions(interactions_dir(self.interactions))
        split = self.data.split.apply(interactions)
        return split.with_filters(self.data.filters.fingerprint())


@task(cache_policy=NO_CACHE, task_run_name="keep data")
def save_inputs(
    split: Split, data: DataConfig, cooccurrence: CooccurrenceConfig, run: Run
) -> SweepInputs:
    """Put the interactions where every trial finds them."""
    digest = split.interactions.digest
    save_interactions(split.interactions, interactions_dir(digest))
    run.log_params({"data": digest})
    return SweepInputs(interactions=digest, data=data, cooccurrence=cooccurrence)


def trial_key(trial: Trial, inputs: SweepInputs, runtime: Runtime) -> str:
    """What tells one trial from another: all that its outcome depends on."""
    seed, precision = runtime.seed, runtime.torch_precision()
    return cache_key(
        kind=type(trial.config).__name__,
        trial=trial.config,
        inputs=inputs,
        seed=seed,
        precision=precision,
        program=source_hash(),
    )


@task(cache_policy=NO_CACHE, task_run_name="{trial.name}", tags=[TRAINING])
def run_trial(
    digest: str, trial: Trial, inputs: SweepInputs, runtime: Runtime, parent: str
) -> None:
    """Fit what a trial asks for and evaluate it on the validation targets."""
    exit_with_parent()
    split = inputs.split()
    with tracking.open_run(parent).child(trial.name) as stage:
        tracking.tag_inputs(stage, digest)
        stage.log_config(runtime=runtime)
        began = time.perf_counter()
        if isinstance(trial.config, EmbeddingConfig):
            model = _embeddings(split, trial.config, inputs.cooccurrence, runtime, stage)
        else:
            model = _sessions(split, trial.config, runtime, stage, digest)
        stage.log_metrics({"seconds": time.perf_counter() - began})
        stage.log_reports({"validation": evaluate(model, split, "validation")})


def _embeddings(
    split: Split,
    config: EmbeddingConfig,
    cooccurrence: CooccurrenceConfig,
    runtime: Runtime,
    stage: Run,
) -> Scorer:
    """Judged by the mean of the vectors watched last."""
    stage.log_config(embeddings=config)
    counts = count_cooccurrence(split.train, cooccurrence.min_rating, window=cooccurrence.window)
    fitted = fit_embeddings(counts, config, runtime=runtime, on_epoch=stage.on_epoch)
    if fitted.loss_ratio is not None:
        stage.log_metrics({"loss_ratio": fitted.loss_ratio})
    return fit_mean_embedding(fitted.vectors, MeanEmbeddingConfig())


def _sessions(
    split: Split, config: SessionConfig, runtime: Runtime, stage: Run, digest: str
) -> Scorer:
    """Goes on after its latest epoch where it was broken off."""
    config = config.resolve(len(split.train))
    stage.log_config(session_model=config)
    return fit_session_model(
        split.train,
        config,
        item_embeddings=ppmi_embeddings(split.train, config.embedding_dim or 64, runtime=runtime),
        runtime=runtime,
        on_epoch=stage.on_epoch,
        validate=lambda model: evaluate(model, split, "validation").metrics,
        checkpoint=checkpoint_dir(digest),
    )
