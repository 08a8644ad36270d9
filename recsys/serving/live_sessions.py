"""The sessions that go on: who has watched what, within a bound of number and of time.

Their histories are in SQLite, which several worker processes can share; each worker keeps the
states of the recurrent network beside it, as a cache that may be lost at any time.
"""

from __future__ import annotations

import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from recsys.recommender import Item, Recommender, Session
from recsys.serving.config import MAX_HISTORY

_CACHED = 10_000
"""Sessions whose state a worker keeps. The recommender bounds what they take up together."""

_SWEEP_EVERY = 64
"""New sessions between two looks for those to forget."""


@dataclass(frozen=True)
class Watched:
    """What is known of a session."""

    n_watched: int
    history: list[Item]
    """Ids of the latest watches, oldest first; `MAX_HISTORY` at most."""


@dataclass(frozen=True)
class _Cached:
    """A session as this worker left it."""

    recommender: Recommender
    n_watched: int
    session: Session

    def fits(self, recommender: Recommender, n_watched: int) -> bool:
        """Whether no other worker has gone on with it, nor another model come, nor too much."""
        return (
            self.recommender is recommender
            and self.n_watched == n_watched
            and len(self.session) < 2 * MAX_HISTORY
        )


class LiveSessions:
    """Histories by session id.

    Args:
        path: of the SQLite file, or `:memory:`.
        max_sessions: the least recently used beyond this many are forgotten.
        seconds: how long a session that nobody uses is kept.
        clock: seconds since whenever, the same for all workers.
    """

    def __init__(
        self,
        path: str,
        max_sessions: int,
        seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.max_sessions = max_sessions
        self.seconds = seconds
        self._clock = clock
        self._cache: OrderedDict[str, _Cached] = OrderedDict()
        self._n_new = 0
        # What is lost when the machine fails was to be forgotten anyway: nothing waits for disks.
        self._db = sqlite3.connect(path, isolation_level=None, timeout=5.0)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS sessions (session_id TEXT PRIMARY KEY, "
            "n_watched INTEGER NOT NULL, history BLOB NOT NULL, used REAL NOT NULL) WITHOUT ROWID"
        )
        self._db.execute("CREATE INDEX IF NOT EXISTS by_use ON sessions (used)")

    def __len__(self) -> int:
        count: int = self._db.execute(
            "SELECT count(*) FROM sessions WHERE used > ?", (self._clock() - self.seconds,)
        ).fetchone()[0]
        return min(count, self.max_sessions)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def get(self, session_id: str) -> Watched | None:
        """What a session holds; None where there is none of this id, or no longer."""
        row = self._db.execute(
            "SELECT n_watched, history FROM sessions WHERE session_id = ? AND used > ?",
            (session_id, self._clock() - self.seconds),
        ).fetchone()
        return None if row is None else Watched(row[0], orjson.loads(row[1]))

    def forget(self, session_id: str) -> bool:
        """Delete a session; tells whether there was one."""
        self._cache.pop(session_id, None)
        deleted = self._db.execute("DELETE FROM sessions WHERE session_id = ?", (session_id,))
        return deleted.rowcount > 0

    def watch(self, recommender: Recommender, session_id: str, item: Item) -> tuple[Session, int]:
        """Add an event to a session, which begins with its first.

        Args:
            recommender: of now; a session that began with another is computed anew.
            session_id: any text.
            item: what was watched.

        Returns:
            The session to ask for what comes next, and how many events it has had.

        Raises:
            UnknownItemError: the recommender has no such item; the session stays as it was.
        """
        index = recommender.index_of(item)
        item_id: Item = recommender.catalogue.ids[index : index + 1].tolist()[0]
        self._db.execute("BEGIN IMMEDIATE")  # one event after the other, over all workers
        try:
            before = self.get(session_id) or Watched(0, [])
            history = [*before.history, item_id][-MAX_HISTORY:]
            self._db.execute(
                "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?)",
                (session_id, before.n_watched + 1, orjson.dumps(history), self._clock()),
            )
            if not before.n_watched:
                self._sweep()
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        return self._state(recommender, session_id, before, item_id), before.n_watched + 1

    def _state(
        self, recommender: Recommender, session_id: str, before: Watched, item_id: Item
    ) -> Session:
        """The session with its state: from the cache if no other worker has gone on with it."""
        cached = self._cache.pop(session_id, None)
        if cached is not None and cached.fits(recommender, before.n_watched):
            session = cached.session
        else:
            known = [i for i in before.history if i in recommender.bundle.items]
            session = recommender.session(known)
        session.add(item_id)
        self._cache[session_id] = _Cached(recommender, before.n_watched + 1, session)
        if len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return session

    def _sweep(self) -> None:
        """Now and then, forget what is too old and what is too much."""
        self._n_new += 1
        if self._n_new % _SWEEP_EVERY and self._n_new != 1 and self.max_sessions > _SWEEP_EVERY:
            return
        self._db.execute("DELETE FROM sessions WHERE used <= ?", (self._clock() - self.seconds,))
        self._db.execute(
            "DELETE FROM sessions WHERE session_id IN "
            "(SELECT session_id FROM sessions ORDER BY used DESC LIMIT -1 OFFSET ?)",
            (self.max_sessions,),
        )
