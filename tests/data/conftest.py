"""A local server that behaves and misbehaves, and what it offers."""

import hashlib
import io
import os
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from recsys.data.public import fetch
from recsys.data.sources import Source
from recsys.errors import DownloadError

NAME = "ml-latest-small"

Files = Mapping[str, bytes] | Sequence[tuple[str | zipfile.ZipInfo, bytes]]


@dataclass
class Server:
    """What the local server shall answer, and what it was asked."""

    url: str = ""
    body: bytes = b""
    status: int = 200
    declared: int | None = None
    """Content-Length, if not the true one; -1 for none."""
    etag: str | None = '"first"'
    modified: str | None = None
    ranges: bool = True
    """Whether it knows of Range; then it knows of If-Range, too, unless told otherwise."""
    if_ranges: bool = True
    range_status: int | None = None
    """What it answers to a Range, instead of what is right."""
    range_shift: int = 0
    """By how many bytes it misses the beginning of a range."""
    breaks: list[int] = field(default_factory=list)
    """After so many bytes the next answers break off, one after the other."""
    pause: float = 0.0
    """Seconds between one kibibyte and the next."""
    stall_after: int | None = None
    """Send so many bytes, then nothing more until `release` is set."""
    release: threading.Event = field(default_factory=threading.Event)
    asked: list[str | None] = field(default_factory=list)
    """The Range of each request."""
    sent: int = 0

    def offer(self, content: bytes | Files, **changes: object) -> dict[str, Source]:
        """Send an archive from now on, and describe it truly but for `changes`."""
        self.body = content if isinstance(content, bytes) else zipped(content)
        facts = {
            "name": NAME,
            "title": "A tiny data set",
            "home": "https://example.org/tiny",
            "url": self.url,
            "bytes": len(self.body),
            "sha256": hashlib.sha256(self.body).hexdigest(),
            "max_members": 10,
            "max_unpacked_bytes": 100_000,
            "licence": "For tests only.\n",
        }
        return {NAME: Source.model_validate(facts | changes)}


class Handler(BaseHTTPRequestHandler):
    def __init__(self, settings: Server, *arguments: Any) -> None:
        self.settings = settings
        super().__init__(*arguments)

    def do_GET(self) -> None:
        now = self.settings
        asked = self.headers["Range"]
        now.asked.append(asked)
        first, status = 0, now.status
        if asked and now.ranges and self._is_current():
            first = int(asked.removeprefix("bytes=").removesuffix("-")) + now.range_shift
            status = now.range_status or 206
        elif status == 206:
            first = now.range_shift
        body = now.body[first:]
        self.send_response(status)
        headers = {"ETag": now.etag, "Last-Modified": now.modified}
        if now.declared != -1:
            headers["Content-Length"] = str(len(body) if now.declared is None else now.declared)
        if status == 206:
            headers["Content-Range"] = f"bytes {first}-{len(now.body) - 1}/{len(now.body)}"
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        try:
            self._send(now, body[: now.breaks.pop(0)] if now.breaks else body)
        except OSError:
            self.close_connection = True  # the other side has had enough

    def _is_current(self) -> bool:
        now, version = self.settings, self.headers["If-Range"]
        return not now.if_ranges or version in (None, now.etag, now.modified)

    def _send(self, now: Server, body: bytes) -> None:
        for start in range(0, len(body), 1024):
            if now.stall_after is not None and start >= now.stall_after:
                now.release.wait(30)
                return
            now.sent += self.wfile.write(body[start : start + 1024])
            time.sleep(now.pause)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


def zipped(files: Files) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in dict(files).items():
            archive.writestr(member, content)
    return buffer.getvalue()


@pytest.fixture
def server() -> Iterator[Server]:
    settings = Server()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, settings)) as listener:
        settings.url = f"http://127.0.0.1:{listener.server_port}/data.zip"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield settings
        settings.release.set()
        listener.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def layout() -> dict[str, bytes]:
    """The files of a tiny data set; one that does not pack well, to break off in."""
    return {
        f"{NAME}/": b"",
        f"{NAME}/ratings.csv": b"userId,movieId,rating,timestamp\n1,1,4.0,964982703\n",
        f"{NAME}/movies.csv": b"movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n",
        f"{NAME}/extra/notes.txt": b"a folder within\n",
        f"{NAME}/tags.csv": os.urandom(8_000),
    }


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[Mapping[str, Source], str], DownloadError]:
    """Check that a fetch fails with a message and leaves nothing behind."""

    def check(sources: Mapping[str, Source], match: str) -> DownloadError:
        with pytest.raises(DownloadError, match=match) as caught:
            fetch(NAME, tmp_path / "data", sources=sources)
        assert set(tmp_path.rglob("*")) <= {tmp_path / "data"}
        return caught.value

    return check
