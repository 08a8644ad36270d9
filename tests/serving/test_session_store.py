from concurrent.futures import ThreadPoolExecutor

import pytest

from recsys.errors import UnknownItemError
from recsys.serving import session_store
from recsys.serving.session_store import SessionStore


@pytest.fixture
def store(tmp_path):
    """Open a worker's connection to the same sessions."""
    opened = []

    def open_(now=lambda: 0.0, max_sessions=100, ttl=60.0):
        worker = SessionStore(str(tmp_path / "s.db"), max_sessions, ttl, now)
        opened.append(worker)
        return worker

    yield open_
    for worker in opened:
        worker.close()


def ids(rec, *indices):
    return [rec.catalogue.ids[i].item() for i in indices]


def test_workers_share_a_session(store, rec):
    workers = [store(), store()]
    name = workers[0].create()
    for n, item in enumerate(ids(rec, 4, 7, 2, 9)):
        session, n_events = workers[n % 2].add(rec, name, item)
        assert n_events == n + 1
    assert session.history == ids(rec, 4, 7, 2, 9)
    expected = rec.next_items(ids(rec, 4, 7, 2, 9))["item_id"].tolist()
    assert session.next_items()["item_id"].tolist() == expected


def test_unknown_item_leaves_the_session_unchanged(store, rec):
    sessions = store()
    name = sessions.create()
    sessions.add(rec, name, ids(rec, 4)[0])
    with pytest.raises(UnknownItemError):
        sessions.add(rec, name, "no such item")
    session, n_events = sessions.add(rec, name, None)
    assert (session.history, n_events) == (ids(rec, 4), 1)
    assert sessions.get(name).history == ids(rec, 4)


def test_least_recently_used_sessions_are_evicted(store, rec):
    now = [0.0]
    sessions = store(lambda: now[0], max_sessions=2)
    first, second = sessions.create(), sessions.create()
    for name in (first, second, first):
        now[0] += 1
        sessions.add(rec, name, ids(rec, 4)[0])
    now[0] += 1
    sessions.create()
    assert sessions.get(second) is None
    assert sessions.get(first).n_events == 2
    assert len(sessions) == 2


def test_idle_sessions_expire(store, rec):
    now = [0.0]
    sessions = store(lambda: now[0], ttl=10)
    name = sessions.create()
    sessions.add(rec, name, ids(rec, 4)[0])
    now[0] = 11.0
    assert sessions.get(name) is None
    assert len(sessions) == 0
    assert sessions.add(rec, name, ids(rec, 7)[0]) is None


def test_only_the_latest_events_are_stored(store, rec, monkeypatch):
    monkeypatch.setattr(session_store, "MAX_HISTORY", 3)
    sessions = store()
    name = sessions.create()
    for index in range(10):
        session, _ = sessions.add(rec, name, ids(rec, index)[0])
        assert len(session) <= 6
    assert sessions.get(name) == session_store.SessionRecord(10, ids(rec, 7, 8, 9))


def test_threads_share_a_session(store, rec):
    sessions = store()
    name, items = sessions.create(), ids(rec, *range(20))
    with ThreadPoolExecutor(8) as pool:
        numbers = [n for _, n in pool.map(lambda item: sessions.add(rec, name, item), items)]
    assert sorted(numbers) == list(range(1, 21))
    stored = sessions.get(name).history
    assert sorted(stored) == sorted(items)
    session, _ = sessions.add(rec, name, None)
    assert session.history == stored
