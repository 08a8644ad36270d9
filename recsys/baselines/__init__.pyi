from .base import (
    FULL_HISTORY,
    Baseline,
    BaselineSpec,
    FitInputs,
    Recency,
    TunedBaseline,
    fit_best,
)
from .ease import EASE, EASEConfig, WideEASE, fit_ease
from .frequency import (
    MarkovChain,
    Popularity,
    RecentPopularityConfig,
    fit_markov_chain,
    fit_popularity,
    fit_recent_popularity,
)
from .implicit_models import (
    ALS,
    ALSConfig,
    BPRConfig,
    LMFConfig,
    ProjectedFactors,
    fit_als,
    fit_bpr,
    fit_lmf,
)
from .item_knn import ItemKNN, ItemKNNConfig, fit_item_knn
from .mean_embedding import MeanEmbedding, MeanEmbeddingConfig, fit_mean_embedding
from .registry import BASELINES, default_baselines, fit_baseline

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
    "FitInputs",
    "ItemKNN",
    "ItemKNNConfig",
    "LMFConfig",
    "MarkovChain",
    "MeanEmbedding",
    "MeanEmbeddingConfig",
    "Popularity",
    "ProjectedFactors",
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
