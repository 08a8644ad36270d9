"""The recommendation API: answers from a saved bundle, without torch."""

from recsys.recommender.answers import Recommendations
from recsys.recommender.catalogue import Item, ItemFilter
from recsys.recommender.recommender import Recommender
from recsys.recommender.sessions import Session

__all__ = ["Item", "ItemFilter", "Recommendations", "Recommender", "Session"]
