"""The recommendation API: answers from a saved bundle, without torch."""

from recsys.recommender.answers import Recommendations
from recsys.recommender.catalogue import Choice, Item
from recsys.recommender.recommender import Recommender
from recsys.recommender.sessions import Session

__all__ = ["Choice", "Item", "Recommendations", "Recommender", "Session"]
