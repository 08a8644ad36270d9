"""The co-occurrence matrix X_ij, and similarities and associations made from it.

interactions → likes → positives (users × items) → row blocks of X → counts in memory or on disk
→ weighting → neighbours. numba, which the row blocks are compiled with, is imported when
something is counted, not before.
"""

from recsys.cooccurrence.block_files import save_cooccurrence
from recsys.cooccurrence.blocks import CooccurrenceBlocks, WeightedBlocks, open_blocks
from recsys.cooccurrence.config import CooccurrenceConfig, Window
from recsys.cooccurrence.counting import (
    count_cooccurrence,
    count_neighbours,
    map_cooccurrence,
)
from recsys.cooccurrence.counts import Cooccurrence, Marginals
from recsys.cooccurrence.incremental import update_cooccurrence
from recsys.cooccurrence.pairs import PairBlock, map_pairs
from recsys.cooccurrence.rows import RowBlock
from recsys.cooccurrence.topk import keep_top_k, top_k
from recsys.cooccurrence.weightings import WEIGHTINGS, WeightingConfig, cosine, weight

__all__ = [
    "WEIGHTINGS",
    "Cooccurrence",
    "CooccurrenceBlocks",
    "CooccurrenceConfig",
    "Marginals",
    "PairBlock",
    "RowBlock",
    "WeightedBlocks",
    "WeightingConfig",
    "Window",
    "cosine",
    "count_cooccurrence",
    "count_neighbours",
    "keep_top_k",
    "map_cooccurrence",
    "map_pairs",
    "open_blocks",
    "save_cooccurrence",
    "top_k",
    "update_cooccurrence",
    "weight",
]
