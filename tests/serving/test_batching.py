"""Micro-batching of concurrent requests."""

import asyncio

import orjson
import pytest

from recsys.errors import UnknownItemError
from recsys.recommender.filters import RecommendOptions
from recsys.serving import state
from recsys.serving.state import MicroBatcher


def request_all(rec, *requests):
    """Results of concurrent requests; errors are returned."""
    batcher = MicroBatcher()

    async def ask(history, options):
        index = rec.catalogue.history_indices(history)
        options = RecommendOptions.resolve(rec.catalogue, **options)
        return orjson.loads(await batcher.next_items(rec, index, options))

    async def all_at_once():
        return await asyncio.gather(*(ask(*each) for each in requests), return_exceptions=True)

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
    whole = rec.scorer.encode_batch
    monkeypatch.setattr(rec.scorer, "encode_batch", lambda h: sizes.append(len(h)) or whole(h))
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
    whole = rec.scorer.rank_batch

    def broken(query, histories, options):
        if options.k == 2:
            raise MemoryError
        return whole(query, histories, options)

    monkeypatch.setattr(rec.scorer, "rank_batch", broken)
    answers = request_all(rec, ([], {"k": 2}), ([], {"k": 2}), ([], {"k": 3}))
    assert [type(each) for each in answers[:2]] == [MemoryError, MemoryError]
    assert len(answers[2]) == 3
