"""Sessions that go on: what someone watches now, one film after the other."""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from typing import TYPE_CHECKING, Unpack

import numpy as np
from numpy.typing import NDArray

from recsys.recommender.answers import Recommendations
from recsys.recommender.catalogue import Item
from recsys.recommender.wishes import NextWishes, taking, wishes_of
from recsys.sessions.numpy_model import NumpySessionModel, State

if TYPE_CHECKING:
    from recsys.recommender.recommender import Recommender

KEPT_BYTES = 256 * 2**20
"""How many bytes of states a recommender keeps for all of its sessions."""

_OVERHEAD = 700
"""Bytes that Python itself takes for a state, about."""


class Session:
    """What one person watches, film by film; made by `Recommender.session`.

    Each watch costs the same after ten films or ten thousand: the model's state is kept, not
    computed anew. One session may be used by several threads; each call is done in one piece.
    """

    __slots__ = ("__weakref__", "_lock", "_recommender", "_watched")

    def __init__(self, recommender: Recommender, watched: NDArray[np.int32]) -> None:
        self._recommender = recommender
        self._watched = array("i", watched.tolist())
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._watched)

    def __repr__(self) -> str:
        return f"Session({self.history!r})"

    @property
    def history(self) -> list[Item]:
        """The ids of what was watched, oldest first."""
        ids: list[Item] = self._recommender.catalogue.ids[list(self._watched)].tolist()
        return ids

    def watch(self, item: Item) -> Session:
        """Watch an item, named by id or title; gives back the session.

        Raises:
            UnknownItemError: the catalogue has no such item, or several.
        """
        index = self._recommender.catalogue.index_of(item)
        with self._lock:
            memory = self._memory()
            self._recommender.states.model.step(memory, [index])
            self._watched.append(index)
            self._recommender.states.put(id(self), memory)
        return self

    @taking(NextWishes)
    def next_items(
        self,
        k: int = 10,
        **wishes: Unpack[NextWishes],
    ) -> Recommendations:
        """What is likely to be watched next; see `Recommender.next_items`."""
        rec = self._recommender
        asked = wishes_of(rec.catalogue, k, wishes, NextWishes)
        with self._lock:
            memory = self._memory()
            logits_N = rec.states.model.logits(memory)
            rec.states.put(id(self), memory)
            watched = np.array(self._watched, dtype=np.int32)
        return rec.answer(rec.scoring.rank(logits_N[None], [watched], asked))

    def _memory(self) -> State:
        """The state, computed anew if it has been dropped since."""
        states = self._recommender.states
        memory = states.take(id(self))
        if memory is None:
            memory = states.model.encode(np.array(self._watched, dtype=np.int32))
        return memory

    def __del__(self) -> None:
        self._recommender.states.drop(id(self))


class States:
    """The states of many sessions within a bound of memory: the least recently used are dropped.

    A session whose state was dropped has it computed anew from its history when it goes on, which
    takes a millisecond or two.
    """

    def __init__(self, model: NumpySessionModel, kept_bytes: int = KEPT_BYTES) -> None:
        self.model = model
        self.kept_bytes = kept_bytes
        self.nbytes = 0
        self._memories: OrderedDict[int, State] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._memories)

    def take(self, key: int) -> State | None:
        """The state of a session, if it is there; from now on it is the caller's alone."""
        with self._lock:
            memory = self._memories.pop(key, None)
            if memory is not None:
                self.nbytes -= memory.nbytes + _OVERHEAD
            return memory

    def put(self, key: int, memory: State) -> None:
        """Keep the state of a session, and drop others where there are too many."""
        with self._lock:
            self._memories[key] = memory
            self.nbytes += memory.nbytes + _OVERHEAD
            while self.nbytes > self.kept_bytes:
                _, dropped = self._memories.popitem(last=False)
                self.nbytes -= dropped.nbytes + _OVERHEAD

    def drop(self, key: int) -> None:
        """Forget a session."""
        self.take(key)
