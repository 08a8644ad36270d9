"""Every baseline by name, each with the few settings that are worth trying."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray

from recsys.baselines.als import ALSConfig, fit_als
from recsys.baselines.averaged import MeanEmbeddingConfig, fit_mean_embedding
from recsys.baselines.ease import EASEConfig, fit_ease
from recsys.baselines.factors import BPRConfig, LMFConfig, fit_bpr, fit_lmf
from recsys.baselines.histories import FULL_HISTORY, Recency
from recsys.baselines.interface import Baseline, BaselineSpec, FitInputs, TunedBaseline, fit_best
from recsys.baselines.item_knn import ItemKNNConfig, fit_item_knn
from recsys.baselines.markov import fit_markov_chain
from recsys.baselines.popularity import (
    RecentPopularityConfig,
    fit_popularity,
    fit_recent_popularity,
)
from recsys.config import Runtime
from recsys.data import Interactions
from recsys.errors import ConfigError

_LAST_FIVE = Recency(last=5, decay=0.8)

BASELINES: dict[str, BaselineSpec] = {
    "popularity": BaselineSpec(lambda given, _: fit_popularity(given.train)),
    "recent-popularity": BaselineSpec(
        lambda given, config: fit_recent_popularity(given.train, config),
        tuple(RecentPopularityConfig(half_life_days=days) for days in (90.0, 7.0, 30.0, 365.0)),
    ),
    "markov": BaselineSpec(lambda given, _: fit_markov_chain(given.train)),
    "item-knn": BaselineSpec(
        lambda given, config: fit_item_knn(given.train, config),
        tuple(
            ItemKNNConfig(weighting=weighting, recency=recency)
            for recency, weighting in product(
                (_LAST_FIVE, FULL_HISTORY), ("cosine", "tfidf", "bm25")
            )
        ),
    ),
    "ease": BaselineSpec(
        lambda given, config: fit_ease(given.train, config),
        tuple(
            EASEConfig(regularization=weight, recency=recency)
            for recency, weight in product((FULL_HISTORY, _LAST_FIVE), (500.0, 100.0))
        ),
    ),
    "als": BaselineSpec(
        lambda given, config: fit_als(given.train, config, runtime=given.runtime),
        (
            ALSConfig(),
            ALSConfig(alpha=10.0, regularization=1.0),
            ALSConfig(factors=128, alpha=10.0, regularization=10.0),
        ),
    ),
    "bpr": BaselineSpec(
        lambda given, config: fit_bpr(given.train, config, runtime=given.runtime),
        (BPRConfig(), BPRConfig(regularization=0.1)),
    ),
    "lmf": BaselineSpec(
        lambda given, config: fit_lmf(given.train, config, runtime=given.runtime),
        (LMFConfig(), LMFConfig(regularization=6.0)),
    ),
    "mean-embedding": BaselineSpec(
        lambda given, config: fit_mean_embedding(given.item_vectors, config),
        tuple(
            MeanEmbeddingConfig(recency=recency, normalise=normalise)
            for recency, normalise in product((_LAST_FIVE, FULL_HISTORY), (True, False))
        ),
    ),
}
"""How each baseline is made, by name."""


def default_baselines(interactions: Interactions) -> list[str]:
    """The names of those that are run beside every model: the strong, and the cheap.

    The Markov chain and item-kNN over the last watches are the hardest to beat and take seconds;
    popularity says what no model at all would do; ALS and EASE are what most papers compare with.
    BPR and LMF are as slow as all others together and weaker, and stay out, as does recent
    popularity, which not all data has the times for. EASE runs where it takes seconds.
    """
    names = ["popularity", "markov", "item-knn", "als", "mean-embedding"]
    if min(interactions.n_users, interactions.n_items) <= _EASE_TAKES_SECONDS:
        names.insert(3, "ease")
    return names


_EASE_TAKES_SECONDS = 5_000
"""Rows of the matrix to invert."""


def fit_baseline(
    name: str,
    train: Interactions,
    *,
    item_vectors: NDArray[np.float32] | None = None,
    runtime: Runtime | None = None,
    validate: Callable[[Baseline], float] | None = None,
) -> TunedBaseline:
    """Fit a baseline by its name.

    Args:
        name: one of `BASELINES`.
        train: what to learn from.
        item_vectors: for "mean-embedding", [n_items, dim].
        runtime: seed and threads.
        validate: how good a model is, higher is better, on validation targets: the best of the
            recipe's configurations is taken; without it, its default.

    Raises:
        ConfigError: there is no such baseline, or it lacks its ingredients.
        DataError: `train` lacks what it looks at.
    """
    if name not in BASELINES:
        raise ConfigError(f"there is no baseline {name!r}: choose one of {', '.join(BASELINES)}")
    given = FitInputs(train, runtime or Runtime(), item_vectors)
    return fit_best(BASELINES[name], given, validate)
