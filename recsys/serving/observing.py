"""What goes around every answer: its time, its log line, and the headers that browsers heed."""

from __future__ import annotations

import re
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys.serving.logs import log_request
from recsys.serving.metrics import Metrics

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Observed:
    """Metrics, logs and headers, around an application (ASGI)."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and tell of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        request_id = _request_id(scope)

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    *_HEADERS,
                    (b"x-request-id", request_id),
                ]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            self._tell(scope, started, status, request_id)

    def _tell(self, scope: Scope, started: float, status: int, request_id: bytes) -> None:
        # The pattern, never the path: this has ids of sessions in it, and there are few patterns.
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.seconds.labels(route).observe(time.perf_counter() - started)
        log_request(
            started,
            {
                "method": method,
                "route": route,
                "status": status,
                "request_id": request_id.decode(),
                "client": scope["client"][0] if scope.get("client") else None,
            },
        )


def _request_id(scope: Scope) -> bytes:
    """The caller's, where it is a plain one, so that a request can be followed through logs."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _GIVEN_ID.fullmatch(value):
            given: bytes = value
            return given
    return secrets.token_hex(8).encode()
