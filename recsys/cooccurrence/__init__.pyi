from .blocks import CooccurrenceBlocks, WeightedBlocks, open_blocks, save_cooccurrence
from .config import CooccurrenceConfig, Window
from .counting import count_cooccurrence, count_neighbours
from .incremental import update_cooccurrence
from .matrix import Cooccurrence, Marginals, RowBlock
from .topk import keep_top_k, top_k
from .weightings import WEIGHTINGS, WeightingConfig, weight

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
