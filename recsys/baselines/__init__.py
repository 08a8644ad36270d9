"""Simple models that a good one has to beat."""

from recsys.baselines.als import ALS, ALSConfig, fit_als
from recsys.baselines.averaged import MeanEmbedding, MeanEmbeddingConfig, fit_mean_embedding
from recsys.baselines.ease import EASE, EASEConfig, WideEASE, fit_ease
from recsys.baselines.factors import BPRConfig, Factors, LMFConfig, fit_bpr, fit_lmf
from recsys.baselines.histories import FULL_HISTORY, Recency
from recsys.baselines.interface import Baseline, BaselineSpec, FitInputs, TunedBaseline, fit_best
from recsys.baselines.item_knn import ItemKNN, ItemKNNConfig, fit_item_knn
from recsys.baselines.markov import MarkovChain, fit_markov_chain
from recsys.baselines.popularity import (
    Popularity,
    RecentPopularityConfig,
    fit_popularity,
    fit_recent_popularity,
)
from recsys.baselines.recipes import BASELINES, default_baselines, fit_baseline

__all__ = [
    "ALS",
    "BASELINES",
    "EASE",
    "FULL_HISTORY",
    "ALSConfig",
    "BPRConfig",
    "Baseline",
    "BaselineSpec",
    "EASEConfig",
    "Factors",
    "FitInputs",
    "ItemKNN",
    "ItemKNNConfig",
    "LMFConfig",
    "MarkovChain",
    "MeanEmbedding",
    "MeanEmbeddingConfig",
    "Popularity",
    "Recency",
    "RecentPopularityConfig",
    "TunedBaseline",
    "WideEASE",
    "default_baselines",
    "fit_als",
    "fit_baseline",
    "fit_best",
    "fit_bpr",
    "fit_ease",
    "fit_item_knn",
    "fit_lmf",
    "fit_markov_chain",
    "fit_mean_embedding",
    "fit_popularity",
    "fit_recent_popularity",
]
