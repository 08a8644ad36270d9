"""Imports, threads, forks and many sessions."""

import multiprocessing
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

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
