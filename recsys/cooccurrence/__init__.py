"""The co-occurrence matrix X_ij and similarities made from it."""

from recsys.cooccurrence.counts import Cooccurrence, CooccurrenceConfig, count_cooccurrence
from recsys.cooccurrence.weightings import cosine, keep_top_k

__all__ = ["Cooccurrence", "CooccurrenceConfig", "cosine", "count_cooccurrence", "keep_top_k"]
