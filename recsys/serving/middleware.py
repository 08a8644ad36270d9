"""ASGI middleware: metrics, request logs, security headers, authentication and limits."""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import os
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from urllib.parse import quote

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
    multiprocess,
)
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys.serving.config import METRICS_DIR_VARIABLE, ServingConfig, listed
from recsys.serving.errors import problem

LOGGER = logging.getLogger("recsys.serving")

_MAX_CLIENTS = 10_000
"""Client addresses with a rate limit in memory; the least recently active are dropped."""

_UNLIMITED = ("/healthz", "/readyz")
"""Always answered, so that an orchestrator does not stop a busy server."""

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_LABELS = ["route", "method", "status"]
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CONTENT_SECURITY_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SECURITY_HEADERS = [
    (b"content-security-policy", _CONTENT_SECURITY_POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
VERSION_KEY = "recsys.version"
"""Key of an ASGI scope: the version of the model that answers the request."""
_PORT = re.compile(r":\d+$")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Metrics:
    """The Prometheus metrics of one server."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._is_multiprocess = METRICS_DIR_VARIABLE in os.environ
        self.requests = Counter(
            "recsys_requests_total", "Requests answered.", _LABELS, registry=registry
        )
        seconds = "Time from receiving a request to sending the end of its response."
        self.seconds = Histogram(
            "recsys_request_seconds", seconds, ["route"], buckets=_BUCKETS, registry=registry
        )
        gauge = partial(Gauge, registry=registry)
        self.in_flight = gauge(
            "recsys_requests_in_flight", "Requests being answered.", multiprocess_mode="livesum"
        )
        self.sessions = gauge("recsys_live_sessions", "Live sessions.", multiprocess_mode="livemax")
        loaded = "Time at which the current model was loaded."
        self.loaded = gauge(
            "recsys_model_loaded_timestamp_seconds", loaded, multiprocess_mode="livemin"
        )
        if not self._is_multiprocess:
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)

    def exposition(self) -> bytes:
        """The metrics of all workers in Prometheus' text format."""
        if self._is_multiprocess:
            shared = CollectorRegistry()
            # The folder of the files may be removed at any time.
            with suppress(OSError, ValueError):
                multiprocess.MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
                return generate_latest(shared)
        return generate_latest(self._registry)


class ObservabilityMiddleware:
    """Adds metrics, request logs, a request id and security headers to every response."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        given_id = _header(scope, b"x-request-id")
        request_id = given_id if _REQUEST_ID.fullmatch(given_id) else secrets.token_hex(8).encode()

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    *_SECURITY_HEADERS,
                    (b"x-request-id", request_id),
                ]
                if VERSION_KEY in scope:
                    version = quote(scope[VERSION_KEY], safe=" ").encode()
                    message["headers"].append((b"x-model-version", version))
                if scope["path"].startswith("/v1/sessions"):
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            self._record(scope, time.perf_counter() - started, status, request_id)

    def _record(self, scope: Scope, seconds: float, status: int, request_id: bytes) -> None:
        # The route pattern rather than the path, which contains session ids.
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        fields = {
            "method": method,
            "route": route,
            "status": status,
            "request_id": request_id.decode(),
            "client": _client(scope),
            "ms": round(1000 * seconds, 2),
        }
        LOGGER.info("request", extra={"fields": fields})


class RateLimiter:
    """A token bucket for each client.

    Args:
        rate: Tokens added per second.
        burst: Capacity of each bucket.
        clock: Time in seconds.
    """

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def acquire(self, client: str) -> float:
        """Take a token. Returns zero, or the seconds until a token is available."""
        now = self._clock()
        tokens, updated = self._buckets.pop(client, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - updated) * self._rate)
        allowed = tokens >= 1.0
        self._buckets[client] = (tokens - allowed, now)
        if len(self._buckets) > _MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1.0 - tokens) / self._rate


class LimitsMiddleware:
    """Rejects requests that exceed a limit or lack the API key, before their body is read."""

    def __init__(self, app: ASGIApp, config: ServingConfig, metrics: Metrics) -> None:
        self._app = app
        self._config = config
        self._metrics = metrics
        self._in_flight = 0
        self._hosts = {host.lower() for host in listed(config.hosts)}
        key = config.api_key
        self._key = None if key is None else key.get_secret_value().encode()
        self._rate = None if config.rate is None else RateLimiter(config.rate, config.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http" or scope["path"] in _UNLIMITED:
            await self._app(scope, receive, send)
            return
        rejection = self._rejection(scope)
        if rejection is not None:
            await rejection(scope, receive, send)
            return
        self._in_flight += 1
        self._metrics.in_flight.inc()
        try:
            await self._forward(scope, receive, send)
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.dec()

    def _rejection(self, scope: Scope) -> Response | None:
        host = _PORT.sub("", _header(scope, b"host").decode("latin-1")).lower()
        if self._hosts and host not in self._hosts:
            return problem(421, "wrong-host", "the server does not answer under this host name")
        wait = 0.0 if self._rate is None else self._rate.acquire(_client(scope) or "")
        if wait:
            return problem(
                429,
                "too-many-requests",
                f"rate limit exceeded: {self._config.rate:g} requests per second are allowed",
                {"Retry-After": str(math.ceil(wait))},
            )
        if self._in_flight >= self._config.max_concurrency:
            detail = "too many concurrent requests: retry in a second"
            return problem(503, "overloaded", detail, {"Retry-After": "1"})
        if self._key is not None and requires_key(scope["path"]) and not self._has_key(scope):
            detail = "missing or wrong API key: send `Authorization: Bearer …`"
            return problem(401, "unauthorized", detail, {"WWW-Authenticate": "Bearer"})
        return None

    def _has_key(self, scope: Scope) -> bool:
        scheme, _, key = _header(scope, b"authorization").partition(b" ")
        is_equal = hmac.compare_digest(key.strip(), self._key or b"")
        return is_equal and scheme.lower() == b"bearer"

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the whole body within its limits and pass it on."""
        length = _header(scope, b"content-length")
        if not length and not _header(scope, b"transfer-encoding"):
            await self._app(scope, receive, send)
            return
        limit = self._config.max_body_bytes
        is_long = length.isdigit() and int(length) > limit
        app: ASGIApp
        try:
            async with asyncio.timeout(self._config.body_timeout):
                body = None if is_long else await _read_body(receive, limit)
        except TimeoutError:
            app = problem(408, "too-slow", "the request body did not arrive in time")
        else:
            if body is None:
                app = problem(413, "too-large", f"a request body may have at most {limit:,} bytes")
            else:
                app, receive = self._app, _replay(body, receive)
        await app(scope, receive, send)


def requires_key(path: str) -> bool:
    """Whether a path requires the API key, if there is one."""
    return path.startswith("/v1/") or path == "/metrics"


async def _read_body(receive: Receive, limit: int) -> bytes | None:
    """The body. None if it exceeds the limit."""
    parts, size = [], 0
    while True:
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            return None
        parts.append(part)
        if not message.get("more_body"):  # complete, or the client has disconnected
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


def _client(scope: Scope) -> str | None:
    return scope["client"][0] if scope.get("client") else None


def _header(scope: Scope, name: bytes) -> bytes:
    return next((bytes(value) for key, value in scope["headers"] if key == name), b"")
