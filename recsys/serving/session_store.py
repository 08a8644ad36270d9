"""The live sessions of the server.

Histories are stored in SQLite, which several worker processes share. Each worker also caches the
states of the session model, which can be recomputed at any time.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock
from weakref import WeakKeyDictionary

import orjson

from recsys.recommender import Item, Recommender, Session
from recsys.serving.schemas import MAX_HISTORY

_MAX_CACHED = 10_000
"""Sessions cached by each worker. The recommender limits the memory of their states."""

_PURGE_EVERY = 64
"""Number of new sessions after which expired sessions are deleted."""


@dataclass(frozen=True)
class SessionRecord:
    """The stored content of a session."""

    n_events: int
    history: list[Item]
    """Ids of the latest events, oldest first; at most `MAX_HISTORY`."""


class SessionStore:
    """Sessions by id. Threads and processes can share them.

    Args:
        path: SQLite file, or `:memory:`.
        max_sessions: Maximum number of sessions; the least recently used are evicted.
        ttl: Seconds after which an idle session expires.
        clock: Time in seconds, the same for all workers.
    """

    def __init__(
        self, path: str, max_sessions: int, ttl: float, clock: Callable[[], float] = time.time
    ) -> None:
        self.max_sessions = max_sessions
        self.ttl = ttl
        self._clock = clock
        # A session does not refer to its recommender, so that a replaced one is freed.
        self._caches = WeakKeyDictionary[Recommender, OrderedDict[str, tuple[int, Session]]]()
        self._n_created = 0
        # Sessions need not survive a crash of the machine, so writes do not wait for the disk.
        self._db = sqlite3.connect(path, isolation_level=None, timeout=5.0, check_same_thread=False)
        self._lock = RLock()
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS sessions (session_id TEXT PRIMARY KEY, "
            "n_events INTEGER NOT NULL, history BLOB NOT NULL, used REAL NOT NULL) WITHOUT ROWID"
        )
        self._db.execute("CREATE INDEX IF NOT EXISTS by_use ON sessions (used)")

    def __len__(self) -> int:
        query = "SELECT count(*) FROM sessions WHERE used > ?"
        with self._lock:
            count: int = self._db.execute(query, (self._clock() - self.ttl,)).fetchone()[0]
        return min(count, self.max_sessions)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def create(self) -> str:
        """Create an empty session. Returns its id, which cannot be guessed."""
        session_id = secrets.token_urlsafe(16)
        with self._lock:
            row = (session_id, 0, orjson.dumps([]), self._clock())
            self._db.execute("INSERT INTO sessions VALUES (?, ?, ?, ?)", row)
            self._purge()
        return session_id

    def get(self, session_id: str) -> SessionRecord | None:
        """The content of a session. None if it does not exist or has expired."""
        query = "SELECT n_events, history FROM sessions WHERE session_id = ? AND used > ?"
        with self._lock:
            row = self._db.execute(query, (session_id, self._clock() - self.ttl)).fetchone()
        return None if row is None else SessionRecord(row[0], orjson.loads(row[1]))

    def delete(self, session_id: str) -> bool:
        """Delete a session. Returns whether it existed."""
        with self._lock:
            for cache in self._caches.values():
                cache.pop(session_id, None)
            query = "DELETE FROM sessions WHERE session_id = ?"
            return self._db.execute(query, (session_id,)).rowcount > 0

    def add(
        self, recommender: Recommender, session_id: str, item: Item | None
    ) -> tuple[Session, int] | None:
        """Add an event to a session.

        Args:
            recommender: The recommender.
            session_id: The id of the session.
            item: The item of the event; None adds no event.

        Returns:
            The session, recomputed if `recommender` has changed, and its number of events. None if
            it does not exist or has expired.

        Raises:
            UnknownItemError: The recommender has no such item. The session is not changed.
        """
        index = [] if item is None else [recommender.index_of(item)]
        new: list[Item] = recommender.catalogue.ids[index].tolist()
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")  # serialises the events of all workers
            try:
                before = self.get(session_id)
                if before is not None:
                    n_events = before.n_events + len(new)
                    history = [*before.history, *new][-MAX_HISTORY:]
                    self._db.execute(
                        "UPDATE sessions SET n_events = ?, history = ?, used = ? "
                        "WHERE session_id = ?",
                        (n_events, orjson.dumps(history), self._clock(), session_id),
                    )
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            if before is None:
                return None
            cache = self._caches.setdefault(recommender, OrderedDict())
            n_cached, session = cache.pop(session_id, (0, None))
        # A cached session is valid unless another worker has added an event, or it has become much
        # longer than the stored history.
        if session is None or n_cached != before.n_events or len(session) >= 2 * MAX_HISTORY:
            session = recommender.session(before.history, unknown="ignore")
        for item_id in new:
            session.add(item_id)
        with self._lock:
            cache[session_id] = (n_events, session)
            if len(cache) > _MAX_CACHED:
                cache.popitem(last=False)
        return session, n_events

    def _purge(self) -> None:
        """Delete expired and surplus sessions, on every `_PURGE_EVERY`-th new session."""
        self._n_created += 1
        is_due = self._n_created == 1 or not self._n_created % _PURGE_EVERY
        if not is_due and self.max_sessions > _PURGE_EVERY:
            return
        self._db.execute("DELETE FROM sessions WHERE used <= ?", (self._clock() - self.ttl,))
        self._db.execute(
            "DELETE FROM sessions WHERE session_id IN "
            "(SELECT session_id FROM sessions ORDER BY used DESC LIMIT -1 OFFSET ?)",
            (self.max_sessions,),
        )
