"""Made-up film ratings with the structure that real ones have, for tests and offline use.

Viewers have tastes and a few films have most of the audience. A viewer watches in sittings:
a handful of titles of one taste, back to back. Franchises are watched in order and sometimes
given up half-way. What comes next therefore depends on what was watched last, and a model that
reads histories in order can beat one that sees them as sets.
"""

from recsys.data.synthetic.catalogue import planted_pairs
from recsys.data.synthetic.config import SyntheticConfig
from recsys.data.synthetic.write import synthesise_ratings, write_parquet, write_sample

__all__ = [
    "SyntheticConfig",
    "planted_pairs",
    "synthesise_ratings",
    "write_parquet",
    "write_sample",
]
