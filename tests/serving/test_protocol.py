"""Connections that are slow, silent, too large or too many."""

import socket
import threading
import time
from contextlib import closing
from functools import partial

import pytest
import uvicorn

from recsys.serving.protocol import MAX_HEADER_BYTES, LimitedProtocol
from tests.serving.conftest import wait_until

running = []
"""The requests that the application is answering."""


async def application(scope, receive, send):
    """Answers with the size of the body, or with as many bytes as the path says."""
    running.append(scope)
    try:
        await answer(scope, receive, send)
    finally:
        running.remove(scope)


async def answer(scope, receive, send):
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    asked = scope["path"].strip("/")
    body = b"x" * int(asked) if asked else str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module", params=["asyncio", "auto"])
def server(request):
    limits = {"seconds": 0.5, "max_body_bytes": 2000, "max_connections": 5}
    config = uvicorn.Config(
        application,
        http=partial(LimitedProtocol, **limits),
        log_level="critical",
        lifespan="off",
        timeout_keep_alive=1,
        loop=request.param,
    )
    server = uvicorn.Server(config)
    with closing(socket.create_server(("127.0.0.1", 0))) as sock:
        thread = threading.Thread(target=server.run, args=([sock],), daemon=True)
        thread.start()
        server.address = sock.getsockname()
        yield server
        server.should_exit = True
        thread.join(30)


def send_until_closed(connection, data, pause=0.0):
    try:
        for _ in range(3000):
            connection.sendall(data)
            time.sleep(pause)
    except (ConnectionResetError, BrokenPipeError):
        return
    raise AssertionError("the server accepts everything")


def read_all(connection):
    """Everything until the server closes the connection."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


@pytest.fixture
def connect(server):
    opened = []

    def connect_(sent=b""):
        connection = socket.create_connection(server.address, timeout=30)
        opened.append(connection)
        connection.sendall(sent)
        return connection

    yield connect_
    for connection in opened:
        connection.close()
    time.sleep(0.1)  # until the server has noticed


def test_requests_are_answered(connect):
    connection = connect(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 2)
    assert read_all(connection).count(b"200 OK") == 2
    post = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2000\r\n\r\n" + b"x" * 2000
    assert read_all(connect(post)).endswith(b"2000")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\r\n",
        b"G",
        b"GET / HTTP/1.1\r\nhost",
        b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n1",
    ],
)
def test_silent_connections_are_closed(connect, sent):
    assert read_all(connect(sent)) == b""


def test_slow_connections_are_closed(connect):
    connection = connect(b"GET / HTTP/1.1\r\n")
    send_until_closed(connection, b"a: b\r\n", pause=0.01)


def test_a_huge_header_is_refused(connect):
    connection = connect(b"GET / HTTP/1.1\r\nhost: a\r\n")
    send_until_closed(connection, b"a: " + b"b" * 8000 + b"\r\n")
    connection = connect(b"GET / HTTP/1.1\r\nhost: a\r\na: " + b"b" * (MAX_HEADER_BYTES + 1))
    assert b"431 Request Header Fields Too Large" in read_all(connection)


def test_huge_bodies_and_trailers_are_refused(connect):
    chunked = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
    for sent in (b"1\r\nx\r\n" * 1000, b"0\r\na: " + b"b" * 8000):
        send_until_closed(connect(chunked), sent)


HUGE = b"GET /50000000 HTTP/1.1\r\nhost: a\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        HUGE + b"\r\n",
        HUGE + b"connection: close\r\n\r\n",
        HUGE + b"\r\n" + HUGE + b"\r\n",
        b"GET /20000 HTTP/1.1\r\nhost: a\r\n\r\n" * 1000,
    ],
    ids=["one", "the last", "two", "many"],
)
def test_a_client_that_does_not_read_is_closed_and_occupies_nothing(connect, server, sent):
    connect(sent)
    connections = server.server_state.connections
    wait_until(lambda: any(c.transport.get_write_buffer_size() for c in set(connections)))
    time.sleep(0.1)  # until the application has returned
    assert not running
    wait_until(lambda: not connections)


def test_requests_wait_until_the_responses_before_them_are_read(connect):
    sizes = [5_000_000, 10, 5_000_000, 0, 3_000_000]
    requests = [b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % size for size in sizes]
    assert read_all(connect(b"".join(requests))).count(b"x") == sum(sizes)


def test_more_connections_are_closed(connect):
    held = [connect(b"GET / HTTP/1.1\r\n") for _ in range(5)]
    assert read_all(connect()) == b""
    held[0].sendall(b"host: a\r\n\r\n")
    assert b"200 OK" in held[0].recv(1000)
