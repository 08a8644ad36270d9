"""Who may ask, how often, how many at once, and how much: checked before anything is read."""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys.serving.config import ServingConfig
from recsys.serving.metrics import Metrics
from recsys.serving.problems import problem

_CLIENTS = 10_000
"""Client addresses whose rate is remembered; the longest silent are forgotten."""

_OPEN = ("/healthz", "/readyz")
"""What is answered to everybody, always: it tells nothing and keeps the server in service."""


class RateLimit:
    """A token bucket for each client.

    Args:
        rate: tokens that flow in, a second.
        burst: how many a bucket holds.
        clock: seconds.
    """

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> float:
        """Take a token; gives back zero, or after how many seconds there will be one."""
        now = self._clock()
        tokens, then = self._buckets.pop(client, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - then) * self._rate)
        allowed = tokens >= 1.0
        self._buckets[client] = (tokens - allowed, now)
        if len(self._buckets) > _CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1.0 - tokens) / self._rate


class Limits:
    """The limits, around an application (ASGI)."""

    def __init__(self, app: ASGIApp, config: ServingConfig, metrics: Metrics) -> None:
        self._app = app
        self._config = config
        self._in_flight = 0
        self._metrics = metrics
        key = config.api_key
        self._key = None if key is None else key.get_secret_value().encode()
        self._rate = None if config.rate is None else RateLimit(config.rate, config.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse to."""
        if scope["type"] != "http" or scope["path"] in _OPEN:
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        self._in_flight += 1
        self._metrics.in_flight.inc()
        try:
            await self._answer(scope, receive, send)
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.dec()

    def _refusal(self, scope: Scope) -> Response | None:
        client = scope["client"][0] if scope.get("client") else ""
        wait = 0.0 if self._rate is None else self._rate.wait(client)
        if wait:
            headers = {"Retry-After": str(math.ceil(wait))}
            detail = f"this client asks too often: {self._config.rate:g} requests a second are kept"
            return problem(429, "too-many-requests", detail, headers)
        if self._in_flight >= self._config.max_concurrency:
            detail = "too many requests are being answered: ask again in a second"
            return problem(503, "overloaded", detail, {"Retry-After": "1"})
        # The page itself is no secret; it asks for the key.
        if self._key is not None and is_guarded(scope["path"]) and not self._has_key(scope):
            headers = {"WWW-Authenticate": "Bearer"}
            detail = "this server wants its API key, as `Authorization: Bearer …`"
            return problem(401, "unauthorized", detail, headers)
        return None

    def _has_key(self, scope: Scope) -> bool:
        sent = _header(scope, b"authorization")
        scheme, _, key = sent.partition(b" ")
        is_key = hmac.compare_digest(key.strip(), self._key or b"")
        return is_key and scheme.lower() == b"bearer"

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the whole body, within its limits, and hand it on in one piece."""
        length = _header(scope, b"content-length")
        if not length and not _header(scope, b"transfer-encoding"):
            await self._app(scope, receive, send)
            return
        most = self._config.max_body_bytes
        too_large = problem(413, "too-large", f"a request may have {most:,} bytes")
        if length.isdigit() and int(length) > most:
            await too_large(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._config.body_timeout):
                body = await _read(receive, most)
        except TimeoutError:
            late = problem(408, "too-slow", "the request took too long to arrive")
            await late(scope, receive, send)
            return
        if body is None:
            await too_large(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)


async def _read(receive: Receive, most: int) -> bytes | None:
    """The body; None if it is larger than it may be."""
    parts, size = [], 0
    while True:
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            return None
        parts.append(part)
        if not message.get("more_body"):  # or the client has gone
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def once() -> Message:
        return messages.pop() if messages else await receive()

    return once


def is_guarded(path: str) -> bool:
    """Whether an answer needs the key, where there is one."""
    return path.startswith("/v1/") or path == "/metrics"


def _header(scope: Scope, name: bytes) -> bytes:
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return b""
