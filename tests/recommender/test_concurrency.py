"""Imports, threads, forks and many sessions."""

import copy
import gc
import multiprocessing
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recsys.errors import BundleError
from recsys.forks import lazy
from recsys.loading import AutoReloader
from recsys.recommender import Recommender
from recsys.recommender.bundle import save_bundle
from recsys.recommender.sessions import StateCache

ROOT = Path(__file__).parents[2]
HISTORIES = [[4], [7, 2], [9, 4, 2], []]


@pytest.fixture
def histories(rec):
    return [rec.bundle.items.ids[history].tolist() for history in HISTORIES]


def answers(rec, histories):
    sessions = [rec.session(history).next_items(5).as_records() for history in histories]
    return sessions, [rec.next_items(history, 5).as_records() for history in histories]


def test_no_training_library_is_imported(full, tmp_path):
    folder = save_bundle(full, tmp_path / "bundle")
    code = (
        "import sys, recsys; rec = recsys.load_recommender(sys.argv[1]); "
        "item = rec.catalogue.ids[0].item(); rec.next_items([item]); rec.search('x'); "
        "rec.explain([item]); rec.next_sequences([item]); rec.session().add(item).next_items(); "
        "rec.recommend_users(); rec.similar_items(item); "
        "rec.similar_to_new_item(co_counts={item: 1}); rec.recommend_batch([[item]]); "
        "heavy = {'mlflow', 'prefect', 'torch', 'numba', 'sklearn', 'matplotlib', 'implicit'}; "
        "print(heavy & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.strip() == "set()"


def test_threads_share_a_recommender(rec, histories):
    expected = answers(rec, histories)
    with ThreadPoolExecutor(8) as pool:
        for batch in pool.map(lambda _: answers(rec, histories), range(40)):
            assert batch == expected


def test_threads_share_a_session(rec):
    session = rec.session()
    ids = rec.bundle.items.ids.tolist()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: session.add(item).next_items(3).as_records(), ids * 4))
    assert sorted(session.history) == sorted(ids * 4)


def test_forked_process(rec, histories):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    expected = answers(rec, histories)
    child = context.Process(target=lambda: queue.put(answers(rec, histories)))
    child.start()
    assert queue.get(timeout=30) == expected
    child.join()  # its exit code depends on the open files of the test process


def test_state_cache_limit_and_evicted_sessions(rec, monkeypatch):
    small = StateCache(max_bytes=20_000)
    monkeypatch.setattr(rec, "state_cache", small)
    ids = rec.bundle.items.ids.tolist()
    sessions = [rec.session() for _ in range(40)]
    for item in ids[:5]:
        for session in sessions:
            session.add(item)
            assert small.nbytes <= small.max_bytes
    assert 0 < len(small) < 40
    expected = rec.next_items(ids[:5], 5)["item_id"].tolist()
    assert all(session.next_items(5)["item_id"].tolist() == expected for session in sessions)
    sessions.clear()
    del session
    assert len(small) == 0
    assert small.nbytes == 0


class Application:
    """A reference cycle that contains a session, so that only the garbage collector frees it."""

    def __init__(self, rec, item):
        self.session = rec.session().add(item)
        self.callback = self.use

    def use(self):
        return self.session


def test_garbage_is_collected_while_the_cache_is_locked(rec):
    item = rec.bundle.items.ids[0].item()
    cache, before = rec.state_cache, len(rec.state_cache)
    Application(rec, item)

    def collect():
        with cache._lock:
            gc.collect()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert len(cache) == before


class Slow:
    started, may_go = threading.Event(), threading.Event()

    @lazy
    def value(self):
        self.started.set()
        return self.may_go.is_set() or self.may_go.wait(60)


def test_fork_while_another_thread_holds_every_lock(rec, full, tmp_path, histories):
    session, folder = rec.session(histories[0]), save_bundle(full, tmp_path / "bundle")
    item, cache = histories[0][0], rec.state_cache
    expected = copy.copy(session).add(item).next_items(5).as_records()
    computing = threading.Thread(target=lambda: Slow().value, daemon=True)
    computing.start()
    Slow.started.wait(60)

    def use(answers):
        Slow.may_go.set()
        answers.put((session.add(item).next_items(5).as_records(), Slow().value, reloader.poll()))

    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    with AutoReloader(folder, poll_interval=0.01) as reloader:
        locks = (cache._lock, *cache._session_locks, reloader._lock, reloader._closed._cond)
        for lock in locks:
            lock.acquire()
        child = context.Process(target=use, args=(answers,), daemon=True)
        child.start()
        for lock in locks:
            lock.release()
    Slow.may_go.set()
    child.join(60)
    assert child.exitcode is not None, "the child hangs"
    assert answers.get() == (expected, True, False)


def test_copy_of_a_session_is_its_own(rec, histories):
    session = rec.session(histories[2])
    for copied in (copy.copy(session), copy.deepcopy(session)):
        assert copied.add(histories[1][0]).history == [*histories[2], histories[1][0]]
        assert session.history == histories[2]
        expected = rec.next_items(copied.history, 5).as_records()
        assert copied.next_items(5)["item_id"].tolist() == [row["item_id"] for row in expected]


@pytest.mark.parametrize("n_before", [0, 190, 250])
def test_long_session_answers_as_its_history_also_after_eviction(rec, n_before):
    """Of a long one, only the latest `max_history` items count, however it was built."""
    n_items = len(rec.bundle.items)
    assert rec.scorer.model.config.max_history == 200
    items = np.random.default_rng(0).integers(0, n_items - 10, n_before + 30)  # ten are left
    history = rec.bundle.items.ids[items].tolist()
    session = rec.session(history[:n_before])
    for n, item in enumerate(history[n_before:], start=n_before + 1):
        session.add(item)
        expected = rec.scorer.model.encode(items[:n]).query
        np.testing.assert_allclose(session._pop_state().query, expected, rtol=1e-4, atol=1e-6)
        if n % 7 == 0:
            session._pop_state()  # as if it was evicted
    answer, whole = session.next_items(5), rec.next_items(history, 5)
    assert answer["item_id"].tolist() == whole["item_id"].tolist()
    np.testing.assert_allclose(answer["score"], whole["score"], rtol=1e-4)
    assert len(session) == len(history)


def test_a_session_says_what_to_pickle(rec):
    with pytest.raises(TypeError, match="pickle its history, and start another one"):
        pickle.dumps(rec.session())


def answer_elsewhere(recommender, history):
    return recommender.next_items(history, 5).as_records()


def test_a_recommender_is_pickled_as_its_folder(rec, full, tmp_path, monkeypatch, histories):
    monkeypatch.chdir(tmp_path)
    save_bundle(full, Path("bundle"))
    loaded = Recommender.load("bundle")
    monkeypatch.chdir("/")
    content = pickle.dumps(loaded)
    assert len(content) < 500
    expected = answer_elsewhere(rec, histories[1])
    assert answer_elsewhere(pickle.loads(content), histories[1]) == expected
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(answer_elsewhere, (loaded, histories[1])) == expected
    save_bundle(replace(full, metrics={"other": 1}), tmp_path / "bundle")
    with pytest.raises(BundleError, match="was replaced after the recommender was pickled"):
        pickle.loads(content)


def test_a_recommender_without_a_folder_is_pickled_whole(rec, histories):
    same = pickle.loads(pickle.dumps(rec))
    assert answer_elsewhere(same, histories[1]) == answer_elsewhere(rec, histories[1])
