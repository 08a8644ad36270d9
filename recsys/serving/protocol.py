"""HTTP connections with limits, which uvicorn's own do not have with httptools."""

from __future__ import annotations

from asyncio import BaseTransport, TimerHandle, Transport
from typing import Any, cast

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MAX_HEADER_BYTES = 64 * 1024
_CHUNK_OVERHEAD = 8
"""Bytes on the wire for each byte of a body that is sent in chunks of one byte."""


class LimitedProtocol(HttpToolsProtocol):
    """A connection that is closed if a request is too large, or the client too slow.

    A request is not begun while the client does not read the responses to those before it.

    Args:
        *args: As for `HttpToolsProtocol`.
        seconds: Time in which a request must arrive, and a response be read.
        max_body_bytes: Maximum size of a body, to which the application answers with status 413.
        max_connections: Number of connections above which new ones are closed.
        **kwargs: As for `HttpToolsProtocol`.
    """

    def __init__(
        self,
        *args: Any,
        seconds: float,
        max_body_bytes: int,
        max_connections: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._seconds = seconds
        self._max_bytes = MAX_HEADER_BYTES + _CHUNK_OVERHEAD * max_body_bytes
        self._max_connections = max_connections
        self._timer: TimerHandle | None = None
        self._read_timer: TimerHandle | None = None
        self._postponed: tuple[RequestResponseCycle, ASGI3Application] | None = None
        self._start_message()

    def _start_message(self) -> None:
        self._is_header, self._size = True, 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _limit_time(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self._seconds, self.transport.abort)

    def connection_made(self, transport: BaseTransport) -> None:
        """Start the time limit of the first request."""
        super().connection_made(cast("Transport", transport))
        self.transport.set_write_buffer_limits(0)  # any byte that the client leaves is waited for
        if len(self.connections) > self._max_connections:
            self.transport.abort()
        self._limit_time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time limits."""
        self._start_message()
        self._stop_read_timer()
        self._postponed = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Close the connection if there is more of a request than is allowed."""
        self._limit_time()
        self._size += len(data)
        super().data_received(data)
        if self._size > (MAX_HEADER_BYTES if self._is_header else self._max_bytes):
            if self._is_header and not self.transport.is_closing():
                self.transport.write(
                    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
                    b"connection: close\r\ncontent-length: 0\r\n\r\n"
                )
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Allow the size of a body."""
        self._is_header = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait for the next request."""
        self._start_message()
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self._read_timer is None:
            super()._start_asgi_task(cycle, app)
        else:
            # There is at most one: uvicorn queues requests behind one that is not answered.
            self._postponed = cycle, app

    def pause_writing(self) -> None:
        """Start the time in which the client must read what was written.

        uvicorn's flow control stays open: a response that waits would count as a running request.
        """
        self._read_timer = self.loop.call_later(self._seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop this time, and begin the request that waited."""
        self._stop_read_timer()
        if self._postponed is not None:
            postponed, self._postponed = self._postponed, None
            self._start_asgi_task(*postponed)

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
