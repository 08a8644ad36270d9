"""Item embeddings fitted to co-occurrence counts."""

from recsys.embeddings.fit import EmbeddingConfig, fit_embeddings
from recsys.embeddings.item_embeddings import ItemEmbeddings
from recsys.embeddings.map import map_items

__all__ = ["EmbeddingConfig", "ItemEmbeddings", "fit_embeddings", "map_items"]
