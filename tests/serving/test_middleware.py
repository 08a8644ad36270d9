"""Authentication, limits, logs and metrics."""

import json
import logging
import socket
import sys

import pytest

from recsys.errors import ConfigError
from recsys.serving.config import ServingConfig
from recsys.serving.middleware import RateLimiter
from recsys.serving.server import JSONFormatter, _bind

KEY = "a key of enough letters"


@pytest.mark.parametrize("key", ["short", "a key of enough letters\n.", 10**20, [KEY], b"\xff"])
def test_an_invalid_api_key_is_refused_without_showing_it(key):
    with pytest.raises(ConfigError, match=r"^api_key: ") as caught:
        ServingConfig(api_key=key)
    assert "\n" not in str(caught.value)
    assert str(key) not in str(caught.value)


def test_api_key_is_required(limited):
    client = limited(api_key=KEY)
    for sent in ({}, {"Authorization": f"Bearer {KEY}x"}, {"Authorization": f"Basic {KEY}"}):
        for path in ("/v1/items", "/metrics"):
            refused = client.get(path, headers=sent)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
    assert client.get("/v1/items", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    assert client.get("/").status_code == 200


def test_api_key_is_not_logged(limited, caplog):
    caplog.set_level(logging.DEBUG)
    client = limited(api_key=KEY)
    client.get("/v1/items", headers={"Authorization": f"Bearer {KEY}"})
    assert KEY not in caplog.text
    assert KEY not in repr(client.app.state.recsys.config)


def test_token_bucket_refills():
    now = [0.0]
    limit = RateLimiter(rate=2.0, burst=3, clock=lambda: now[0])
    assert [limit.acquire("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert limit.acquire("b") == 0
    now[0] = 0.75
    assert limit.acquire("a") == 0
    assert limit.acquire("a") == pytest.approx(0.25)


def test_rate_limit_sets_retry_after(limited):
    client = limited(rate=0.1, burst=2)
    responses = [client.get("/v1/items") for _ in range(3)]
    assert [response.status_code for response in responses] == [200, 200, 429]
    assert 1 <= int(responses[2].headers["retry-after"]) <= 10


def test_concurrency_limit(limited):
    client = limited(max_concurrency=1)
    busy = client.app.middleware_stack
    while type(busy).__name__ != "LimitsMiddleware":
        busy = getattr(busy, "app", None) or busy._app
    busy._in_flight = 1
    refused = client.get("/v1/items")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert client.get("/healthz").status_code == 200


def test_body_limit_with_and_without_content_length(limited):
    client = limited(max_body_bytes=1024)
    headers = {"content-type": "application/json"}
    assert client.post("/v1/next", json={"history": [1] * 600}).status_code == 413
    parts = (b" " * 600 for _ in range(3))
    assert client.post("/v1/next", content=parts, headers=headers).status_code == 413
    assert client.post("/v1/next", json={"history": []}).status_code == 200


def test_logs_are_json_without_histories(client, caplog, rec):
    caplog.set_level(logging.INFO, logger="recsys.serving")
    title = rec.catalogue.titles[4]
    client.post("/v1/next", json={"history": [title]}, headers={"x-request-id": "abc"})
    client.post("/v1/next", json={"history": [f"{title} no"], "unknown": "raise"})
    client.get("/v1/items", params={"query": title})
    client.get("/v1/sessions/" + "secret-session_1234567"[:22])
    lines = [json.loads(JSONFormatter().format(record)) for record in caplog.records]
    requests = [line for line in lines if line["event"] == "request"]
    assert [(line["route"], line["status"]) for line in requests] == [
        ("/v1/next", 200),
        ("/v1/next", 404),
        ("/v1/items", 200),
        ("/v1/sessions/{session_id}", 404),
    ]
    assert requests[0]["request_id"] == "abc"
    text = json.dumps(lines)
    assert title[:8] not in text
    assert "secret-session" not in text


def test_logged_error_has_a_traceback_but_no_message():
    def fail():
        raise KeyError("Heat (1995)")

    try:
        fail()
    except KeyError:
        record = logging.LogRecord("x", 40, "", 0, "it broke", None, sys.exc_info())
    line = json.loads(JSONFormatter().format(record))
    assert (line["event"], line["error"]) == ("it broke", "KeyError")
    assert line["traceback"][-1].endswith(" fail")
    assert "Heat" not in json.dumps(line)


def test_metrics_are_labelled_by_route(client):
    client.post("/v1/next", json={})
    client.get("/v1/sessions/somebody")
    client.get("/some/where")
    text = client.get("/metrics").text
    assert 'recsys_requests_total{method="POST",route="/v1/next",status="200"}' in text
    assert 'route="other",status="404"' in text
    assert "somebody" not in text
    assert "recsys_live_sessions" in text


def test_security_headers(client):
    for path in ("/", "/v1/items", "/nowhere"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_address_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for workers in (1, 2):
            with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
                _bind("127.0.0.1", port, workers)


def test_white_space_around_keys_is_no_part_of_them(limited):
    client = limited(api_key=f" {KEY}\n")
    for sent in (KEY, f"{KEY} "):
        headers = {"Authorization": f"Bearer {sent}"}
        assert client.get("/v1/items", headers=headers).status_code == 200


def test_only_listed_hosts_are_answered(limited):
    client = limited(hosts="Films.example, testserver")
    for host, status in (
        ("films.example:8000", 200),
        ("testserver", 200),
        ("evil.example", 421),
        ("", 421),
    ):
        assert client.get("/v1/items", headers={"host": host}).status_code == status


def test_pages_of_listed_origins_may_send_requests(limited):
    client = limited(origins="https://films.example", api_key=KEY)
    asked = {"origin": "https://films.example", "access-control-request-method": "POST"}
    asked["access-control-request-headers"] = "authorization,content-type"
    allowed = client.options("/v1/next", headers=asked)
    assert allowed.headers["access-control-allow-origin"] == "https://films.example"
    refused = client.options("/v1/next", headers=asked | {"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in refused.headers
    assert "access-control-allow-origin" not in limited().get("/", headers=asked).headers


@pytest.mark.parametrize("proxies", ["*", "127.0.0.1, proxy"])
def test_proxies_are_addresses(proxies):
    with pytest.raises(ConfigError, match="does not appear to be an IPv4 or IPv6 network"):
        ServingConfig(proxies=proxies)
    assert ServingConfig(proxies="10.0.0.0/8, ::1").proxies
