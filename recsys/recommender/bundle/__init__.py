"""The folder that is deployed: one verified directory with all that recommending needs.

manifest.json               format, library versions, size and SHA-256 of every file
config.json                 the configuration of each stage
items.parquet               the catalogue, in index order: item_id, title, genres where known
embeddings.safetensors      item vectors
session_model.safetensors   the recurrent network's parameters
neighbours.npz              the nearest items of each item, and their cosine
metrics.json                validation and test metrics of the session model
cooccurrence.npz            with which others each item was liked, and by how many users
histories.npz               who watched what, for `recommend_user`: only where it was asked for

Version 2 of the format added the last two; bundles of version 1 are read as ever.
"""

from recsys.recommender.bundle.contents import Bundle, make_bundle
from recsys.recommender.bundle.folder import FORMAT_VERSION, load_bundle, save_bundle
from recsys.recommender.bundle.histories import Histories
from recsys.recommender.bundle.pair_counts import PairCounts

__all__ = [
    "FORMAT_VERSION",
    "Bundle",
    "Histories",
    "PairCounts",
    "load_bundle",
    "make_bundle",
    "save_bundle",
]
