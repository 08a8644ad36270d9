"""Live sessions: histories that are extended item by item, without encoding them again."""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict, deque
from itertools import count
from typing import Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from recsys.forks import renew_after_fork
from recsys.recommender.catalogue import Catalogue, Item, Unknown
from recsys.recommender.filters import ItemFilter, RecommendOptions
from recsys.recommender.results import Recommendations, ranking_table
from recsys.recommender.scoring import ItemScorer, RankedItems
from recsys.sessions.numpy_model import State

MAX_STATE_BYTES = 256 * 2**20
"""Default memory limit for the states of all sessions of a recommender."""

_STATE_OVERHEAD = 700
"""Approximate size in bytes of a state's Python objects."""

_SESSION_LOCKS: Final = 64
"""Locks that the sessions of a recommender share, each one with every 64th session."""


class Session:
    """The history of one user, extended item by item. Created by `Recommender.session`.

    The state of the session model is cached, so that an answer costs the same after one item as
    after `max_history`. Of longer histories, the latest `max_history` items count, as everywhere:
    they are encoded again after each new item. Sessions are thread-safe. `copy.copy(session)`
    continues on its own.
    """

    __slots__ = ("__weakref__", "_cache", "_catalogue", "_history", "_key", "_scorer")

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
        self._key = cache.new_key()
        self._history = array("i", history.tolist())

    def __copy__(self) -> Session:
        with self._cache.lock(self._key):
            history = np.array(self._history, dtype=np.int32)
        return Session(self._catalogue, self._scorer, self._cache, history)

    def __deepcopy__(self, _: object) -> Session:
        return self.__copy__()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a session cannot be pickled: pickle its history, and start another one")

    def __len__(self) -> int:
        return len(self._history)

    def __repr__(self) -> str:
        latest = f", the latest {self.history[-3:]}" if len(self) else ""
        return f"<Session of {len(self):,} items{latest}>"

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
        with self._cache.lock(self._key):
            if len(self._history) < self._scorer.model.config.max_history:
                state = self._pop_state()
                self._scorer.model.step(state, [index])
                self._cache.put(self._key, state)
            else:  # a state cannot forget its oldest item
                self._cache.pop(self._key)
            self._history.append(index)
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
        unknown: Unknown = "raise",
    ) -> Recommendations:
        """Recommend the next items; see `Recommender.next_items`."""
        weights = diversity, popularity_weight, embedding_weight
        options = RecommendOptions.resolve(
            self._catalogue, k, include, exclude, *weights, exclude_seen, unknown
        )
        return ranking_table(self._catalogue, self.rank(options))

    def rank(self, options: RecommendOptions) -> RankedItems:
        """The next items, ranked."""
        with self._cache.lock(self._key):
            state = self._pop_state()
            query_D = state.query
            self._cache.put(self._key, state)
            history = np.array(self._history, dtype=np.int32)
        return self._scorer.rank_next(query_D, history, options)

    def _pop_state(self) -> State:
        """Take the state out of the cache, or compute it from the history if it is not there."""
        state = self._cache.pop(self._key)
        if state is None:
            state = self._scorer.model.encode(np.array(self._history, dtype=np.int32))
        return state

    def __del__(self) -> None:
        # No lock: the garbage collector runs in any thread, which may hold the cache's.
        self._cache.discarded.append(self._key)


class StateCache:
    """The states of many sessions within a memory limit. Evicts the least recently used.

    A session whose state was evicted recomputes it from its history. So does every session in a
    forked process, which starts with an empty cache.
    """

    def __init__(self, max_bytes: int = MAX_STATE_BYTES) -> None:
        self.max_bytes = max_bytes
        self.discarded = deque[int]()
        """Keys of sessions that no longer exist."""
        self._keys = count()
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Forget all states and replace the locks."""
        self.nbytes = 0
        self._states: OrderedDict[int, State] = OrderedDict()
        self._lock = threading.Lock()
        self._session_locks = [threading.Lock() for _ in range(_SESSION_LOCKS)]

    def __len__(self) -> int:
        with self._lock:
            self._forget_discarded()
            return len(self._states)

    def new_key(self) -> int:
        """A key for a new session; none is used twice."""
        with self._lock:
            self._forget_discarded()
            return next(self._keys)

    def lock(self, key: int) -> threading.Lock:
        """The lock of a session."""
        return self._session_locks[key % _SESSION_LOCKS]

    def pop(self, key: int) -> State | None:
        """Remove and return the state of a session. None if there is none."""
        with self._lock:
            return self._pop(key)

    def put(self, key: int, state: State) -> None:
        """Store the state of a session and evict others if the limit is exceeded."""
        with self._lock:
            self._forget_discarded()
            self._states[key] = state
            self.nbytes += state.nbytes + _STATE_OVERHEAD
            while self.nbytes > self.max_bytes:
                self._pop(next(iter(self._states)))

    def _pop(self, key: int) -> State | None:
        state = self._states.pop(key, None)
        if state is not None:
            self.nbytes -= state.nbytes + _STATE_OVERHEAD
        return state

    def _forget_discarded(self) -> None:
        while self.discarded:
            self._pop(self.discarded.popleft())
