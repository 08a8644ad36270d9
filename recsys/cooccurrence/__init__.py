"""Item-item co-occurrence counts X_ij, and similarities computed from them.

interactions → positive events → row blocks of X → counts in memory or on disk → weighting
→ neighbours. numba is imported on the first count.
"""

from recsys.cooccurrence.blocks import (
    CooccurrenceBlocks,
    WeightedBlocks,
    open_blocks,
    save_cooccurrence,
)
from recsys.cooccurrence.config import CooccurrenceConfig, Window
from recsys.cooccurrence.counting import count_cooccurrence, count_neighbours
from recsys.cooccurrence.incremental import update_cooccurrence
from recsys.cooccurrence.matrix import Cooccurrence, Marginals, RowBlock
from recsys.cooccurrence.topk import keep_top_k, top_k
from recsys.cooccurrence.weightings import WEIGHTINGS, WeightingConfig, weight

__all__ = [
    "WEIGHTINGS",
    "Cooccurrence",
    "CooccurrenceBlocks",
    "CooccurrenceConfig",
    "Marginals",
    "RowBlock",
    "WeightedBlocks",
    "WeightingConfig",
    "Window",
    "count_cooccurrence",
    "count_neighbours",
    "keep_top_k",
    "open_blocks",
    "save_cooccurrence",
    "top_k",
    "update_cooccurrence",
    "weight",
]
