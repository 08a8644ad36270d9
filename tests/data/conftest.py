"""A local HTTP server with configurable faults, and a small data set to serve."""

import hashlib
import io
import os
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from recsys.data.public import Source, fetch
from recsys.errors import DownloadError

NAME = "ml-latest-small"

Files = Mapping[str, bytes] | Sequence[tuple[str | zipfile.ZipInfo, bytes]]


@dataclass
class Server:
    """The responses of the local server, and the requests that it received."""

    url: str = ""
    body: bytes = b""
    status: int = 200
    declared: int | None = None
    """Content-Length, if not the true one; -1 for none."""
    pause: float = 0.0
    """Seconds between chunks of 1 KiB."""
    stall_after: int | None = None
    """Send this many bytes, then nothing more until `release` is set."""
    release: threading.Event = field(default_factory=threading.Event)
    n_requests: int = 0
    sent: int = 0

    def offer(self, content: bytes | Files, **changes: object) -> dict[str, Source]:
        """Serve an archive from now on; return its description with some changes."""
        self.body = content if isinstance(content, bytes) else zipped(content)
        entry = {
            "name": NAME,
            "title": "A tiny data set",
            "home": "https://example.org/tiny",
            "url": self.url,
            "bytes": len(self.body),
            "sha256": hashlib.sha256(self.body).hexdigest(),
            "licence": "For tests only.\n",
        }
        return {NAME: Source.model_validate(entry | changes)}


class Handler(BaseHTTPRequestHandler):
    def __init__(self, settings: Server, *arguments: Any) -> None:
        self.settings = settings
        super().__init__(*arguments)

    def do_GET(self) -> None:
        settings = self.settings
        settings.n_requests += 1
        self.send_response(settings.status)
        if settings.declared != -1:
            length = len(settings.body) if settings.declared is None else settings.declared
            self.send_header("Content-Length", str(length))
        self.end_headers()
        with suppress(OSError):  # the client closed the connection
            self._send(settings)

    def _send(self, settings: Server) -> None:
        for start in range(0, len(settings.body), 1024):
            if settings.stall_after is not None and start >= settings.stall_after:
                settings.release.wait(30)
                return
            settings.sent += self.wfile.write(settings.body[start : start + 1024])
            time.sleep(settings.pause)

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
    """The files of a small data set, including one that does not compress."""
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
