from .config import EmbeddingConfig, PairWeights
from .export import write_parquet, write_projector, write_word2vec
from .fit import fit_embeddings, spectral_optimum
from .folding import fold_in
from .item_embeddings import ItemEmbeddings
from .ppmi import ppmi_embeddings
from .projection import most_popular, pca_plane, project_items
from .saved import load_embeddings, save_embeddings
from .spectral import SpectralOptimum

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
