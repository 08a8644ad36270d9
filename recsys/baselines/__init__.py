"""Simple models that a good one has to beat."""

from recsys.baselines.als import ALS, ALSConfig, fit_als
from recsys.baselines.averaged import AveragedConfig, AveragedEmbedding, fit_averaged_embedding
from recsys.baselines.ease import EASE, EASEConfig, WideEASE, fit_ease
from recsys.baselines.factors import BPRConfig, Factors, LMFConfig, fit_bpr, fit_lmf
from recsys.baselines.histories import WHOLE, Recency
from recsys.baselines.interface import Baseline, Fitted, Ingredients, Recipe, fit_best
from recsys.baselines.item_knn import ItemKNN, ItemKNNConfig, fit_item_knn
from recsys.baselines.markov import MarkovChain, fit_markov_chain
from recsys.baselines.popularity import (
    Popularity,
    RecentPopularityConfig,
    fit_popularity,
    fit_recent_popularity,
)
from recsys.baselines.recipes import BASELINES, fit_baseline, usual_baselines

__all__ = [
    "ALS",
    "BASELINES",
    "EASE",
    "WHOLE",
    "ALSConfig",
    "AveragedConfig",
    "AveragedEmbedding",
    "BPRConfig",
    "Baseline",
    "EASEConfig",
    "Factors",
    "Fitted",
    "Ingredients",
    "ItemKNN",
    "ItemKNNConfig",
    "LMFConfig",
    "MarkovChain",
    "Popularity",
    "Recency",
    "RecentPopularityConfig",
    "Recipe",
    "WideEASE",
    "fit_als",
    "fit_averaged_embedding",
    "fit_baseline",
    "fit_best",
    "fit_bpr",
    "fit_ease",
    "fit_item_knn",
    "fit_lmf",
    "fit_markov_chain",
    "fit_popularity",
    "fit_recent_popularity",
    "usual_baselines",
]
