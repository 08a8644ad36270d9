"""Micro-batching of concurrent requests."""

import asyncio

import pytest

from recsys.errors import UnknownItemError
from recsys.serving import state
from recsys.serving.state import MicroBatcher


def request_all(rec, *requests):
    """Results of concurrent requests; errors are returned."""
    batcher = MicroBatcher()

    async def all_at_once():
        results = [batcher.next_items(rec, history, **options) for history, options in requests]
        return await asyncio.gather(*results, return_exceptions=True)

    return asyncio.run(all_at_once())


def test_batched_requests_equal_single_requests(rec, monkeypatch):
    monkeypatch.setattr(state, "_MAX_BATCH", 3)
    ids = rec.catalogue.ids.tolist()
    requests = [(ids[n : n + n % 4], {"k": 3 + n % 2}) for n in range(10)]
    for (history, options), records in zip(requests, request_all(rec, *requests), strict=True):
        expected = rec.next_items(history, **options).as_records()
        assert [row["item_id"] for row in records] == [row["item_id"] for row in expected]
        assert [row["score"] for row in records] == pytest.approx(
            [row["score"] for row in expected]
        )
        assert list(records[0]) == list(expected[0])


def test_concurrent_requests_are_one_batch(rec, monkeypatch):
    sizes = []
    whole = rec.recommend_batch
    monkeypatch.setattr(
        rec, "recommend_batch", lambda h, **w: sizes.append(len(h)) or whole(h, **w)
    )
    request_all(rec, *[([item], {"k": 2}) for item in rec.catalogue.ids[:5].tolist()])
    assert sizes == [5]


def test_history_of_all_items(rec):
    everything = rec.catalogue.ids.tolist()
    answers = request_all(
        rec, (everything, {"k": 2}), (everything[:1], {"k": 2}), (everything, {"k": 2})
    )
    assert [len(records) for records in answers] == [0, 2, 0]


def test_invalid_request_does_not_affect_the_batch(rec):
    invalid, valid = request_all(rec, (["no such item"], {"k": 2}), ([], {"k": 2}))
    assert isinstance(invalid, UnknownItemError)
    assert len(valid) == 2


def test_error_of_a_batch_is_raised_by_all_its_requests(rec, monkeypatch):
    def broken(*_, **__):
        raise MemoryError

    monkeypatch.setattr(rec, "recommend_batch", broken)
    answers = request_all(rec, ([], {"k": 2}), ([], {"k": 2}), ([], {"k": 3}))
    assert [type(each) for each in answers[:2]] == [MemoryError, MemoryError]
    assert len(answers[2]) == 3
