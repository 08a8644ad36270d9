"""Recommendations from a saved bundle. Requires neither torch nor MLflow."""

from recsys.recommender.catalogue import Item
from recsys.recommender.filters import ItemFilter
from recsys.recommender.recommender import Recommender
from recsys.recommender.results import Recommendations
from recsys.recommender.sessions import Session

__all__ = ["Item", "ItemFilter", "Recommendations", "Recommender", "Session"]
