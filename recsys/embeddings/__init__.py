"""Item embeddings fitted to co-occurrence counts.

The public names, each imported when it is first used: reading vectors needs no torch.
"""

from typing import TYPE_CHECKING

from recsys.deferred import deferred
from recsys.embeddings.fold_in import fold_in  # at once: its module has the same name

if TYPE_CHECKING:
    from recsys.embeddings.config import EmbeddingConfig, PairWeights
    from recsys.embeddings.export import write_parquet, write_projector, write_word2vec
    from recsys.embeddings.fit import fit_embeddings, spectral_optimum
    from recsys.embeddings.item_embeddings import ItemEmbeddings
    from recsys.embeddings.ppmi import ppmi_embeddings
    from recsys.embeddings.projection import most_popular, pca_plane, project_items
    from recsys.embeddings.saved import load_embeddings, save_embeddings
    from recsys.embeddings.spectral import SpectralOptimum

__all__ = [
    "EmbeddingConfig",
    "ItemEmbeddings",
    "PairWeights",
    "SpectralOptimum",
    "fit_embeddings",
    "fold_in",
    "load_embeddings",
    "most_popular",
    "pca_plane",
    "ppmi_embeddings",
    "project_items",
    "save_embeddings",
    "spectral_optimum",
    "write_parquet",
    "write_projector",
    "write_word2vec",
]

__getattr__ = deferred(
    __name__,
    {
        "recsys.embeddings.config": ["EmbeddingConfig", "PairWeights"],
        "recsys.embeddings.export": ["write_parquet", "write_projector", "write_word2vec"],
        "recsys.embeddings.fit": ["fit_embeddings", "spectral_optimum"],
        "recsys.embeddings.item_embeddings": ["ItemEmbeddings"],
        "recsys.embeddings.projection": ["project_items", "most_popular", "pca_plane"],
        "recsys.embeddings.saved": ["load_embeddings", "save_embeddings"],
        "recsys.embeddings.spectral": ["SpectralOptimum"],
        "recsys.embeddings.ppmi": ["ppmi_embeddings"],
    },
)
