import hashlib
import io
import os
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from recsys.data.public import Source, default_source, fetch, public_sources
from recsys.data.synthetic import SyntheticConfig, write_sample
from recsys.errors import DownloadError, NetworkError

NAME = "ml-latest-small"
LAYOUT = {
    f"{NAME}/": b"",
    f"{NAME}/ratings.csv": b"userId,movieId,rating,timestamp\n1,1,4.0,964982703\n",
    f"{NAME}/movies.csv": b"movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n",
    f"{NAME}/extra/notes.txt": b"a folder within\n",
}


@dataclass
class Server:
    """What the local server shall answer, and what it was asked."""

    url: str = ""
    body: bytes = b""
    status: int = 200
    declared: int | None = None
    """Content-Length; none to end the answer by closing the connection."""
    stall_after: int | None = None
    """Send so many bytes, then nothing more until `release` is set."""
    release: threading.Event = field(default_factory=threading.Event)
    asked: int = 0
    sent: int = 0


class Handler(BaseHTTPRequestHandler):
    def __init__(self, settings: Server, *arguments: Any) -> None:
        self.settings = settings
        super().__init__(*arguments)

    def do_GET(self) -> None:
        now = self.settings
        now.asked += 1
        self.send_response(now.status)
        if now.declared is not None:
            self.send_header("Content-Length", str(now.declared))
        self.end_headers()
        try:
            self._send(now)
        except OSError:
            self.close_connection = True  # the other side has had enough

    def _send(self, now: Server) -> None:
        for start in range(0, len(now.body), 1024):
            if now.stall_after is not None and start >= now.stall_after:
                now.release.wait(30)
                return
            now.sent += self.wfile.write(now.body[start : start + 1024])

    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


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


def zipped(files: Mapping[str, bytes], *more: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in [*files.items(), *more]:
            archive.writestr(member, content)
    return buffer.getvalue()


def offer(server: Server, body: bytes, **changes: object) -> dict[str, Source]:
    """Let the server send `body`, and describe it truly but for `changes`."""
    server.body = body
    facts = {
        "name": NAME,
        "title": "A tiny data set",
        "home": "https://example.org/tiny",
        "url": server.url,
        "bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "max_members": 10,
        "max_unpacked_bytes": 100_000,
        "licence": "For tests only.\n",
    }
    return {NAME: Source.model_validate(facts | changes)}


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[Mapping[str, Source], str], DownloadError]:
    """Check that a fetch fails with a message and leaves nothing behind."""

    def check(sources: Mapping[str, Source], match: str) -> DownloadError:
        with pytest.raises(DownloadError, match=match) as caught:
            fetch(NAME, tmp_path / "data", sources=sources)
        assert set(tmp_path.rglob("*")) <= {tmp_path / "data"}
        return caught.value

    return check


Refused = Callable[[Mapping[str, Source], str], DownloadError]


def test_what_is_known_of_movielens() -> None:
    source = public_sources()[NAME]
    assert source.name == NAME
    assert source.url.startswith("https://files.grouplens.org/")
    assert source.bytes == 978_202
    assert "10.1145/2827872" in source.licence
    assert "commercial" in source.licence


def test_a_data_set_is_unpacked_without_its_top_folder(server: Server, tmp_path: Path) -> None:
    said: list[str] = []
    sources = offer(server, zipped(LAYOUT))

    folder = fetch(NAME, tmp_path, notify=said.append, sources=sources)

    assert folder == tmp_path / NAME
    for name, content in LAYOUT.items():
        path = tmp_path / name
        assert path.is_dir() if name.endswith("/") else path.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert len(said) == 1
    assert "For tests only." in said[0]


def test_what_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    said: list[str] = []
    sources = offer(server, zipped(LAYOUT))
    for _ in range(2):
        fetch(NAME, tmp_path, notify=said.append, sources=sources)
    assert server.asked == 1
    assert len(said) == 1


def test_an_empty_folder_does_not_count(server: Server, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    folder = fetch(NAME, tmp_path, sources=offer(server, zipped(LAYOUT)))
    assert (folder / "ratings.csv").is_file()


def test_the_terms_go_to_stderr_and_no_bar_is_drawn(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(NAME, tmp_path, sources=offer(server, zipped(LAYOUT)))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "A tiny data set\nhttps://example.org/tiny\nFor tests only.\n"


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="'ml-1b'; there are ml-latest-small"):
        fetch("ml-1b", tmp_path)


def test_a_file_in_the_way_is_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("precious")
    with pytest.raises(DownloadError, match="is a file, not a folder: move it away"):
        fetch(NAME, tmp_path, sources=offer(server, zipped(LAYOUT)))
    assert (tmp_path / NAME).read_text() == "precious"


def test_a_folder_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match=r"file/ml-latest-small cannot be written: "):
        fetch(NAME, tmp_path / "file", sources=offer(server, zipped(LAYOUT)))


def test_wrong_bytes_are_refused(server: Server, refused: Refused) -> None:
    sources = offer(server, zipped(LAYOUT))
    server.body = server.body[:-1] + b"!"
    error = refused(sources, "SHA-256 [0-9a-f]{64}, not the [0-9a-f]{64} on record")
    assert not isinstance(error, NetworkError)


def test_too_many_bytes_are_refused_as_soon_as_they_come(server: Server, refused: Refused) -> None:
    sources = offer(server, zipped(LAYOUT))
    server.body += b"x" * 50_000_000
    refused(sources, "gave more than the [0-9]+ bytes on record")
    assert server.sent < 20_000_000


def test_too_few_bytes_are_refused(server: Server, refused: Refused) -> None:
    sources = offer(server, zipped(LAYOUT))
    server.body = server.body[:100]
    refused(sources, "gave 100 bytes, not the [0-9]+ on record")


def test_a_broken_connection_is_the_networks_fault(server: Server, refused: Refused) -> None:
    sources = offer(server, zipped(LAYOUT))
    server.declared = len(server.body)
    server.body = server.body[:100]
    error = refused(sources, "could not be fetched: .*; check the network connection")
    assert isinstance(error, NetworkError)


@pytest.mark.parametrize(("status", "is_networks_fault"), [(404, False), (503, True)])
def test_an_answer_that_is_no_data_set_is_refused(
    server: Server, refused: Refused, status: int, is_networks_fault: bool
) -> None:
    server.status = status
    error = refused(offer(server, zipped(LAYOUT)), f"the server answered {status}; try again")
    assert isinstance(error, NetworkError) == is_networks_fault


def test_an_address_that_makes_no_sense_is_refused(server: Server, refused: Refused) -> None:
    refused(offer(server, b"zip", url="http://host:port/"), "fetched: .*; check the address")


def _link(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system = 3  # Unix: the upper half of external_attr is the file's mode
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


def _bzip2(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.compress_type = zipfile.ZIP_BZIP2
    return member


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        (f"{NAME}/../../evil.csv", b"!", "would land outside its folder"),
        ("/tmp/evil.csv", b"!", "would land outside its folder"),
        (f"{NAME}\\..\\evil.csv", b"!", "would land outside its folder"),
        ("C:/evil.csv", b"!", "would land outside its folder"),
        (_link(f"{NAME}/evil.csv"), b"/etc/passwd", "is a link or a device"),
        (_bzip2(f"{NAME}/evil.csv"), b"!", "not packed with deflate"),
        (f"{NAME}/evil.csv", b"\0" * 100_001, "more than 100000 bytes unpacked"),
        ("evil.csv", b"!", "not exactly one folder at its top"),
        ("other/evil.csv", b"!", "not exactly one folder at its top"),
    ],
)
def test_an_unsafe_archive_is_refused(
    server: Server, refused: Refused, name: str | zipfile.ZipInfo, content: bytes, match: str
) -> None:
    refused(offer(server, zipped(LAYOUT, (name, content))), match)


def test_the_bound_holds_for_all_files_together(server: Server, refused: Refused) -> None:
    parts = {f"{NAME}/{i}.csv": b"\0" * 60_000 for i in range(2)}
    refused(offer(server, zipped(parts)), "more than 100000 bytes unpacked")


def test_a_size_that_the_archive_makes_up_does_not_help_it(
    server: Server, refused: Refused
) -> None:
    true_size, made_up = (5_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    bomb = zipped({f"{NAME}/ratings.csv": b"\0" * 5_000_000})
    assert bomb.count(true_size) == 2  # beside the file and in the directory
    refused(offer(server, bomb.replace(true_size, made_up)), "holds ")


def test_too_many_members_are_refused(server: Server, refused: Refused) -> None:
    members = {f"{NAME}/{i}.csv": b"" for i in range(11)}
    refused(offer(server, zipped(members)), "more than 10 members")


@pytest.mark.parametrize("body", [b"<html>no zip</html>", zipped({}), zipped(LAYOUT)[:-30]])
def test_what_is_no_archive_is_refused(server: Server, refused: Refused, body: bytes) -> None:
    refused(offer(server, body), "holds ")


def test_a_damaged_member_is_refused(server: Server, refused: Refused) -> None:
    body = bytearray(zipped({f"{NAME}/ratings.csv": os.urandom(1000)}))
    body[300] ^= 0xFF
    refused(offer(server, bytes(body)), "cannot be unpacked")


def test_a_kill_half_way_leaves_nothing_that_can_be_loaded(server: Server, tmp_path: Path) -> None:
    padding = {f"{NAME}/tags.csv": os.urandom(8_000)}
    sources = offer(server, zipped({**LAYOUT, **padding}))
    server.stall_after = 4_096
    code = (
        "import sys; from pathlib import Path; from recsys.data.public import Source, fetch\n"
        "source = Source.model_validate_json(sys.argv[1])\n"
        "fetch(source.name, Path(sys.argv[2]), sources={source.name: source})\n"
    )
    arguments = [sys.executable, "-c", code, sources[NAME].model_dump_json(), str(tmp_path)]
    with subprocess.Popen(arguments) as process:
        deadline = time.monotonic() + 60
        while server.sent < 4_096 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    assert server.sent == 4_096
    assert not list(tmp_path.iterdir())

    server.stall_after = None
    assert (fetch(NAME, tmp_path, sources=sources) / "ratings.csv").is_file()


def closed_port(server: Server) -> dict[str, Source]:
    # Port 1 needs privileges to listen on, so nobody does.
    return offer(server, zipped(LAYOUT), url="http://127.0.0.1:1/data.zip")


def test_the_default_is_the_public_data_set(server: Server, tmp_path: Path) -> None:
    assert default_source(tmp_path, sources=offer(server, zipped(LAYOUT))) == tmp_path / NAME


def test_without_a_network_there_are_made_up_ratings(server: Server, tmp_path: Path) -> None:
    said: list[str] = []

    folder = default_source(tmp_path, said.append, sources=closed_port(server))

    assert folder == tmp_path / "synthetic-sample"
    assert (folder / "ratings.csv").is_file()
    assert (folder / "movies.csv").is_file()
    assert len(said) == 1
    assert "\n" not in said[0]
    assert said[0].startswith(f"using made-up ratings in {folder} instead of {NAME}: ")
    assert "refused" in said[0]


def test_made_up_ratings_are_made_once(server: Server, tmp_path: Path) -> None:
    own = SyntheticConfig(n_users=5, n_items=20, mean_events=5)
    before = (write_sample(tmp_path / "synthetic-sample", own) / "ratings.csv").read_bytes()
    folder = default_source(tmp_path, sources=closed_port(server))
    assert (folder / "ratings.csv").read_bytes() == before


def test_the_public_data_set_is_taken_when_it_is_there(server: Server, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "ratings.csv").touch()
    assert default_source(tmp_path, sources=closed_port(server)) == tmp_path / NAME


def test_made_up_ratings_never_stand_in_for_wrong_bytes(server: Server, tmp_path: Path) -> None:
    sources = offer(server, zipped(LAYOUT), sha256="0" * 64)
    with pytest.raises(DownloadError, match="SHA-256"):
        default_source(tmp_path, sources=sources)
    assert not list(tmp_path.iterdir())
