"""Requests of one moment are answered together, and each as if it had come alone."""

import asyncio

import pytest

from recsys.errors import UnknownItemError
from recsys.serving import state
from recsys.serving.state import MicroBatcher


def ask(rec, *requests):
    """Answers of requests that come at the same moment; a mistake as the error."""
    one = MicroBatcher()

    async def all_at_once():
        asked = [one.next_items(rec, history, **options) for history, options in requests]
        return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(all_at_once())


def test_each_is_answered_as_if_alone(rec, monkeypatch):
    monkeypatch.setattr(state, "_MAX_BATCH", 3)
    ids = rec.catalogue.ids.tolist()
    requests = [(ids[n : n + n % 4], {"k": 3 + n % 2}) for n in range(10)]
    for (history, options), records in zip(requests, ask(rec, *requests), strict=True):
        alone = rec.next_items(history, **options).as_records()
        assert [row["item_id"] for row in records] == [row["item_id"] for row in alone]
        assert [row["score"] for row in records] == pytest.approx([row["score"] for row in alone])
        assert list(records[0]) == list(alone[0])


def test_several_are_one_batch(rec, monkeypatch):
    asked = []
    whole = rec.recommend_batch
    monkeypatch.setattr(
        rec, "recommend_batch", lambda h, **w: asked.append(len(h)) or whole(h, **w)
    )
    ask(rec, *[([item], {"k": 2}) for item in rec.catalogue.ids[:5].tolist()])
    assert asked == [5]


def test_who_has_watched_everything_gets_an_empty_list(rec):
    everything = rec.catalogue.ids.tolist()
    answers = ask(rec, (everything, {"k": 2}), (everything[:1], {"k": 2}), (everything, {"k": 2}))
    assert [len(records) for records in answers] == [0, 2, 0]


def test_ones_mistake_is_not_the_others(rec):
    mistaken, right = ask(rec, (["no such film"], {"k": 2}), ([], {"k": 2}))
    assert isinstance(mistaken, UnknownItemError)
    assert len(right) == 2


def test_what_goes_wrong_in_a_batch_is_told_to_all_of_it(rec, monkeypatch):
    def broken(*_, **__):
        raise MemoryError

    monkeypatch.setattr(rec, "recommend_batch", broken)
    answers = ask(rec, ([], {"k": 2}), ([], {"k": 2}), ([], {"k": 3}))
    assert [type(each) for each in answers[:2]] == [MemoryError, MemoryError]
    assert len(answers[2]) == 3
