"""Simple models that a good one has to beat."""

from collections.abc import Callable
from typing import Any

from recsys.baselines.als import ALS, ALSConfig, fit_als
from recsys.baselines.item_knn import ItemKNN, ItemKNNConfig, fit_item_knn
from recsys.baselines.popularity import Popularity, fit_popularity
from recsys.config import Runtime
from recsys.data import Interactions

BASELINES: dict[str, Callable[[Interactions, Runtime], Any]] = {
    "popularity": lambda interactions, _: fit_popularity(interactions),
    "item-knn": lambda interactions, _: fit_item_knn(interactions),
    "als": lambda interactions, runtime: fit_als(interactions, runtime=runtime),
}
"""Each baseline with its default configuration, by name."""

__all__ = [
    "ALS",
    "BASELINES",
    "ALSConfig",
    "ItemKNN",
    "ItemKNNConfig",
    "Popularity",
    "fit_als",
    "fit_item_knn",
    "fit_popularity",
]
