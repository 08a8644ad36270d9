from .config import EmbeddingConfig, PairWeights
from .fit import fit_embeddings, ppmi_embeddings, spectral_optimum
from .io import (
    load_embeddings,
    save_embeddings,
    vector_bytes,
    write_parquet,
    write_projector,
    write_word2vec,
)
from .item_embeddings import ItemEmbeddings, fold_in
from .optimum import SpectralOptimum
from .projection import most_popular, pca_plane, project_items

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
    "vector_bytes",
    "write_parquet",
    "write_projector",
    "write_word2vec",
]
