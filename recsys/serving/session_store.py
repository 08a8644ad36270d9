"""The live sessions of the server.

Histories are stored in SQLite, which several worker processes share. Each worker also caches the
states of the session model, which can be recomputed at any time.
"""

from __future__ import annotations

import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
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
    """Sessions by id.

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
        self._db = sqlite3.connect(path, isolation_level=None, timeout=5.0)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS sessions (session_id TEXT PRIMARY KEY, "
            "n_events INTEGER NOT NULL, history BLOB NOT NULL, used REAL NOT NULL) WITHOUT ROWID"
        )
        self._db.execute("CREATE INDEX IF NOT EXISTS by_use ON sessions (used)")

    def __len__(self) -> int:
        count: int = self._db.execute(
            "SELECT count(*) FROM sessions WHERE used > ?", (self._clock() - self.ttl,)
        ).fetchone()[0]
        return min(count, self.max_sessions)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def get(self, session_id: str) -> SessionRecord | None:
        """The content of a session. None if it does not exist or has expired."""
        row = self._db.execute(
            "SELECT n_events, history FROM sessions WHERE session_id = ? AND used > ?",
            (session_id, self._clock() - self.ttl),
        ).fetchone()
        return None if row is None else SessionRecord(row[0], orjson.loads(row[1]))

    def delete(self, session_id: str) -> bool:
        """Delete a session. Returns whether it existed."""
        for cache in self._caches.values():
            cache.pop(session_id, None)
        deleted = self._db.execute("DELETE FROM sessions WHERE session_id = ?", (session_id,))
        return deleted.rowcount > 0

    def add(self, recommender: Recommender, session_id: str, item: Item) -> tuple[Session, int]:
        """Add an event to a session, which is created by its first event.

        Returns:
            The session, recomputed if `recommender` has changed, and its number of events.

        Raises:
            UnknownItemError: The recommender has no such item. The session is not changed.
        """
        index = recommender.index_of(item)
        item_id: Item = recommender.catalogue.ids[index : index + 1].tolist()[0]
        self._db.execute("BEGIN IMMEDIATE")  # serialises the events of all workers
        try:
            before = self.get(session_id) or SessionRecord(0, [])
            history = [*before.history, item_id][-MAX_HISTORY:]
            self._db.execute(
                "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?)",
                (session_id, before.n_events + 1, orjson.dumps(history), self._clock()),
            )
            if not before.n_events:
                self._purge()
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        session = self._session(recommender, session_id, before)
        session.add(item_id)
        n_events = before.n_events + 1
        cache = self._caches.setdefault(recommender, OrderedDict())
        cache[session_id] = (n_events, session)
        if len(cache) > _MAX_CACHED:
            cache.popitem(last=False)
        return session, n_events

    def _session(self, recommender: Recommender, session_id: str, record: SessionRecord) -> Session:
        """The session from the cache, or created from its history.

        A cached session is valid unless the model has changed, another worker has added an event,
        or it has become much longer than the stored history.
        """
        cache = self._caches.setdefault(recommender, OrderedDict())
        n_events, session = cache.pop(session_id, (0, None))
        is_valid = n_events == record.n_events
        if session is not None and is_valid and len(session) < 2 * MAX_HISTORY:
            return session
        return recommender.session([i for i in record.history if i in recommender.bundle.items])

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
