"""Item embeddings fitted to co-occurrence counts."""

from recsys.embeddings.config import EmbeddingConfig, PairWeights
from recsys.embeddings.export import write_parquet, write_word2vec
from recsys.embeddings.fit import fit_embeddings, spectral_optimum
from recsys.embeddings.fold_in import fold_in
from recsys.embeddings.item_embeddings import ItemEmbeddings
from recsys.embeddings.map import map_items, most_watched
from recsys.embeddings.spectral import SpectralOptimum
from recsys.embeddings.windowed import windowed_vectors

__all__ = [
    "EmbeddingConfig",
    "ItemEmbeddings",
    "PairWeights",
    "SpectralOptimum",
    "fit_embeddings",
    "fold_in",
    "map_items",
    "most_watched",
    "spectral_optimum",
    "windowed_vectors",
    "write_parquet",
    "write_word2vec",
]
