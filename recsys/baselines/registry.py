"""The registry of baselines: each by name, with the configurations to search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recsys.baselines.base import (
    FULL_HISTORY,
    Baseline,
    BaselineSpec,
    FitInputs,
    Recency,
    TunedBaseline,
    fit_best,
)
from recsys.baselines.ease import EASEConfig, fit_ease
from recsys.baselines.frequency import (
    RecentPopularityConfig,
    fit_markov_chain,
    fit_popularity,
    fit_recent_popularity,
    fit_user_items,
)
from recsys.baselines.implicit_models import (
    ALSConfig,
    BPRConfig,
    LMFConfig,
    fit_als,
    fit_bpr,
    fit_lmf,
)
from recsys.baselines.item_knn import ItemKNNConfig, fit_item_knn
from recsys.baselines.mean_embedding import MeanEmbeddingConfig, fit_mean_embedding
from recsys.config import Config, Runtime
from recsys.data import Interactions
from recsys.errors import ConfigError

_LAST_FIVE = Recency(last=5, decay=0.8)

BASELINES: dict[str, BaselineSpec] = {
    "popularity": BaselineSpec(lambda inputs, _: fit_popularity(inputs.train)),
    "recent-popularity": BaselineSpec(
        lambda inputs, config: fit_recent_popularity(inputs.train, config),
        tuple(RecentPopularityConfig(half_life_days=days) for days in (90.0, 7.0, 30.0, 365.0)),
    ),
    "user-recent": BaselineSpec(lambda inputs, _: fit_user_items(inputs.train, by_count=False)),
    "user-frequent": BaselineSpec(lambda inputs, _: fit_user_items(inputs.train, by_count=True)),
    "markov": BaselineSpec(lambda inputs, _: fit_markov_chain(inputs.train)),
    "item-knn": BaselineSpec(
        lambda inputs, config: fit_item_knn(inputs.train, config),
        tuple(
            ItemKNNConfig(weighting=weighting, recency=recency)
            for recency in (_LAST_FIVE, FULL_HISTORY)
            for weighting in ("cosine", "tfidf", "bm25")
        ),
    ),
    "ease": BaselineSpec(
        lambda inputs, config: fit_ease(inputs.train, config),
        tuple(
            EASEConfig(regularization=weight, recency=recency)
            for recency in (FULL_HISTORY, _LAST_FIVE)
            for weight in (500.0, 100.0)
        ),
    ),
    "als": BaselineSpec(
        lambda inputs, config: fit_als(inputs.train, config, runtime=inputs.runtime),
        (
            ALSConfig(),
            ALSConfig(alpha=10.0, regularization=1.0),
            ALSConfig(factors=128, alpha=10.0, regularization=10.0),
        ),
    ),
    "bpr": BaselineSpec(
        lambda inputs, config: fit_bpr(inputs.train, config, runtime=inputs.runtime),
        (BPRConfig(), BPRConfig(regularization=0.1)),
    ),
    "lmf": BaselineSpec(
        lambda inputs, config: fit_lmf(inputs.train, config, runtime=inputs.runtime),
        (LMFConfig(), LMFConfig(regularization=6.0)),
    ),
    "mean-embedding": BaselineSpec(
        lambda inputs, config: fit_mean_embedding(inputs.item_vectors, config),
        tuple(
            MeanEmbeddingConfig(recency=recency, normalise=normalise)
            for recency in (_LAST_FIVE, FULL_HISTORY)
            for normalise in (True, False)
        ),
    ),
}
"""All baselines by name."""

_MAX_EASE_SIZE = 5_000
"""Size of the matrix to invert up to which EASE takes seconds."""


def default_baselines(interactions: Interactions) -> list[str]:
    """The names of the baselines to run by default.

    The Markov chain and item-kNN are the strongest and take seconds. Popularity is the lower
    bound. ALS and EASE are common in the literature; EASE is included if it takes seconds. BPR
    and LMF are slower than all others together and weaker; recent popularity needs timestamps.
    Where items repeat, the user's own items come first: the most recent and the most frequent.
    """
    names = ["popularity", "markov", "item-knn", "als", "mean-embedding"]
    if min(interactions.n_users, interactions.n_items) <= _MAX_EASE_SIZE:
        names.insert(3, "ease")
    return [*(["user-recent", "user-frequent"] if interactions.repeats else []), *names]


def fit_baseline(
    name: str,
    train: Interactions,
    *,
    item_vectors: NDArray[np.float32] | None = None,
    runtime: Runtime | None = None,
    validate: Callable[[Baseline], float] | None = None,
    config: Config | None = None,
) -> TunedBaseline:
    """Fit a baseline by its name.

    Args:
        name: A key of `BASELINES`.
        train: Interactions to fit to.
        item_vectors: Pretrained vectors for "mean-embedding", [n_items, dim].
        runtime: Seed and threads.
        validate: Metric by which to choose among the configurations (see `fit_best`).
        config: The configuration, instead of the default and of a search.

    Raises:
        ConfigError: The name is unknown, or `item_vectors` is missing or of other items.
        DataError: `train` lacks a required column.
    """
    if name not in BASELINES:
        raise ConfigError(f"unknown baseline {name!r}: choose one of {', '.join(BASELINES)}")
    if item_vectors is not None and len(item_vectors) != train.n_items:
        raise ConfigError(
            f"`item_vectors` are of another catalogue: {len(item_vectors):,} for {train.items}"
        )
    inputs = FitInputs(train.sequence(), runtime or Runtime(), item_vectors)
    spec = BASELINES[name]
    return fit_best(spec if config is None else replace(spec, configs=(config,)), inputs, validate)
