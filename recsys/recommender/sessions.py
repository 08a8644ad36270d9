"""Live sessions: histories that are extended item by item at constant cost."""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from recsys.recommender.catalogue import Catalogue, Item
from recsys.recommender.filters import ItemFilter, RecommendOptions
from recsys.recommender.results import Recommendations, ranking_table
from recsys.recommender.scoring import ItemScorer
from recsys.sessions.numpy_model import State

MAX_STATE_BYTES = 256 * 2**20
"""Default memory limit for the states of all sessions of a recommender."""

_STATE_OVERHEAD = 700
"""Approximate size in bytes of a state's Python objects."""


class Session:
    """The history of one user, extended item by item. Created by `Recommender.session`.

    The state of the session model is cached, so that adding an item costs the same after ten items
    as after ten thousand. Sessions are thread-safe.
    """

    __slots__ = ("__weakref__", "_cache", "_catalogue", "_history", "_lock", "_scorer")

    def __init__(
        self,
        catalogue: Catalogue,
        scorer: ItemScorer,
        cache: StateCache,
        history: NDArray[np.int32],
    ) -> None:
        self._catalogue = catalogue
        self._scorer = scorer
        self._cache = cache
        self._history = array("i", history.tolist())
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._history)

    def __repr__(self) -> str:
        return f"Session({self.history!r})"

    @property
    def history(self) -> list[Item]:
        """The ids of the items, oldest first."""
        ids: list[Item] = self._catalogue.ids[list(self._history)].tolist()
        return ids

    def add(self, item: Item) -> Session:
        """Append an item, given by id or title, and return the session.

        Raises:
            UnknownItemError: No item, or more than one, has this id or title.
        """
        index = self._catalogue.index_of(item)
        with self._lock:
            state = self._pop_state()
            self._scorer.model.step(state, [index])
            self._history.append(index)
            self._cache.put(id(self), state)
        return self

    def next_items(
        self,
        k: int = 10,
        *,
        include: ItemFilter | None = None,
        exclude: ItemFilter = (),
        diversity: float = 0.0,
        popularity_weight: float = 1.0,
        embedding_weight: float | None = None,
        exclude_seen: bool | None = None,
    ) -> Recommendations:
        """Recommend the next items; see `Recommender.next_items`."""
        weights = diversity, popularity_weight, embedding_weight
        options = RecommendOptions.resolve(
            self._catalogue, k, include, exclude, *weights, exclude_seen
        )
        with self._lock:
            state = self._pop_state()
            logits_N = self._scorer.model.logits(state)
            self._cache.put(id(self), state)
            history = np.array(self._history, dtype=np.int32)
        ranked = self._scorer.rank(logits_N[None], [history], options)
        return ranking_table(self._catalogue, ranked)

    def _pop_state(self) -> State:
        """Take the state out of the cache, or compute it from the history if it was evicted."""
        state = self._cache.pop(id(self))
        if state is None:
            state = self._scorer.model.encode(np.array(self._history, dtype=np.int32))
        return state

    def __del__(self) -> None:
        self._cache.pop(id(self))


class StateCache:
    """The states of many sessions within a memory limit. Evicts the least recently used.

    A session whose state was evicted recomputes it from its history, in a few milliseconds.
    """

    def __init__(self, max_bytes: int = MAX_STATE_BYTES) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._states: OrderedDict[int, State] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._states)

    def pop(self, key: int) -> State | None:
        """Remove and return the state of a session. None if there is none."""
        with self._lock:
            state = self._states.pop(key, None)
            if state is not None:
                self.nbytes -= state.nbytes + _STATE_OVERHEAD
            return state

    def put(self, key: int, state: State) -> None:
        """Store the state of a session and evict others if the limit is exceeded."""
        with self._lock:
            self._states[key] = state
            self.nbytes += state.nbytes + _STATE_OVERHEAD
            while self.nbytes > self.max_bytes:
                _, evicted = self._states.popitem(last=False)
                self.nbytes -= evicted.nbytes + _STATE_OVERHEAD
