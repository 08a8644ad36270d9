"""The event loop answers while anything is computed, and slow work is bounded."""

import asyncio
import json
import threading
import time

import httpx
import pytest
from starlette.requests import Request

from recsys.recommender import Recommender
from recsys.serving import create_app
from recsys.serving.errors import ProblemError
from recsys.serving.state import Threads

WORK = {
    "next": ("POST", "/v1/next", {"history": [0]}, "scorer.encode_batch"),
    "filter": ("POST", "/v1/next", {"include": {"genres": 0}}, "catalogue.attribute_mask"),
    "unknown": ("POST", "/v1/similar", {"item": "No such film"}, "catalogue.suggestions"),
    "similar": ("POST", "/v1/similar", {"item": 0}, "similar_items"),
    "sequences": ("POST", "/v1/sequences", {"history": [0]}, "next_sequences"),
    "explain": ("POST", "/v1/explain", {"history": [0]}, "explain"),
    "search": ("GET", "/v1/items", None, "search"),
}


@pytest.mark.parametrize("work", WORK)
def test_the_event_loop_never_computes(bundle, work, monkeypatch):
    recommender = Recommender(bundle)
    method, path, body, name = WORK[work]
    item = recommender.catalogue.ids[4].item()
    for field, value in (body or {}).items():
        if value in (0, [0]):
            body = {field: [item] if value else item}
    if work == "filter":
        body = {"include": {"genres": [recommender.catalogue.genres[0][0]]}}
    app = create_app(lambda: recommender)
    *owner, attribute = name.split(".")
    target = getattr(recommender, owner[0]) if owner else recommender
    whole, started, may_go = getattr(target, attribute), threading.Event(), threading.Event()

    def slow(*args, **kwargs):
        started.set()
        assert may_go.wait(60), "the event loop waits for the computation"
        return whole(*args, **kwargs)

    monkeypatch.setattr(target, attribute, slow)

    async def ask():
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://a") as client,
        ):
            answer = asyncio.create_task(client.request(method, path, json=body))
            await asyncio.to_thread(started.wait, 60)
            assert (await client.get("/healthz")).status_code == 200
            may_go.set()
            return (await answer).status_code

    assert asyncio.run(ask()) == (404 if work == "unknown" else 200)


def request_of(has_left):
    async def receive():
        await has_left.wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "headers": []}, receive)


def test_slow_requests_wait_for_a_thread_or_are_refused():
    running, most = [], []

    def work(_):
        running.append(1)
        most.append(len(running))
        time.sleep(0.01)
        running.pop()
        return "done"

    async def ask_all():
        threads = Threads(2, 5)
        asked = [threads.run(request_of(asyncio.Event()), work) for _ in range(8)]
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = asyncio.run(ask_all())
    assert answers[:5] == ["done"] * 5
    for refused in answers[5:]:
        assert isinstance(refused, ProblemError)
        assert refused.response.status_code == 503
        assert refused.response.headers["retry-after"]
    assert max(most) <= 2


def test_work_ends_when_the_client_has_left():
    def endless(check):
        while True:
            check()

    async def leave():
        left, threads = asyncio.Event(), Threads(1, 5)
        first = asyncio.create_task(threads.run(request_of(left), endless))
        second = asyncio.create_task(threads.run(request_of(asyncio.Event()), lambda _: "done"))
        await asyncio.sleep(0.01)
        left.set()
        with pytest.raises(ProblemError, match="has closed the connection"):
            await first
        return await second

    assert asyncio.run(leave()) == "done"


@pytest.mark.parametrize("work", ["sequences", "explain"])
def test_computations_end_when_the_client_has_left(bundle, work, monkeypatch):
    recommender = Recommender(bundle)
    _, path, _, name = WORK[work]
    app = create_app(lambda: recommender)
    history = [recommender.catalogue.ids[4].item()]
    body = json.dumps({"history": history}).encode()

    def endless(*_args, on_step, **_options):
        while True:
            on_step()

    monkeypatch.setattr(recommender, name, endless)

    async def ask_and_leave():
        received = [{"type": "http.request", "body": body}]
        sent = []

        async def receive():
            return received.pop() if received else {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        headers = [(b"host", b"a"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        async with app.router.lifespan_context(app):
            await app({**scope, "query_string": b"", "client": ("a", 1)}, receive, send)
        return sent[0]["status"]

    assert asyncio.run(ask_and_leave()) == 408
