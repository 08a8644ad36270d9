import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from recsys.data import public
from recsys.data.public import default_source, fetch, public_sources
from recsys.data.synthetic import SyntheticConfig, write_sample
from recsys.errors import ConfigError, DownloadError, NetworkError

NAME = "ml-latest-small"


@pytest.mark.parametrize("source", public_sources().values(), ids=public_sources())
def test_movielens_sources(source):
    assert source.url == f"https://files.grouplens.org/datasets/movielens/{source.name}.zip"
    assert source.home.startswith("https://grouplens.org/datasets/movielens/")
    assert source.bytes > 900_000
    for term in ("commercial", "redistribute", "10.1145/2827872"):
        assert term in source.licence


def test_all_sizes_of_movielens_are_listed():
    sizes = ("latest-small", "100k", "1m", "10m", "20m", "25m", "32m")
    assert list(public_sources()) == [f"ml-{size}" for size in sizes]


def test_a_data_set_is_extracted_without_its_top_level_folder(server, tmp_path, layout):
    messages = []
    sources = server.offer(layout)

    folder = fetch(NAME, tmp_path, notify=messages.append, sources=sources)

    assert folder == tmp_path / NAME
    for name, content in layout.items():
        path = tmp_path / name
        assert path.is_dir() if name.endswith("/") else path.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert len(messages) == 1
    assert "For tests only." in messages[0]


def test_an_existing_data_set_is_not_downloaded_again(server, tmp_path, layout):
    messages = []
    sources = server.offer(layout)
    for _ in range(2):
        fetch(NAME, tmp_path, notify=messages.append, sources=sources)
    assert server.n_requests == 1
    assert len(messages) == 1


def test_an_empty_folder_is_downloaded(server, tmp_path, layout):
    (tmp_path / NAME).mkdir()
    folder = fetch(NAME, tmp_path, sources=server.offer(layout))
    assert (folder / "ratings.csv").is_file()


def test_terms_go_to_stderr_without_a_progress_bar(server, tmp_path, capsys, layout):
    fetch(NAME, tmp_path, sources=server.offer(layout))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "A tiny data set\nhttps://example.org/tiny\nFor tests only.\n"


def test_an_unknown_name_is_an_error(tmp_path):
    with pytest.raises(DownloadError, match="'ml-1b'; choose from ml-latest-small"):
        fetch("ml-1b", tmp_path)


def test_an_existing_file_is_not_overwritten(server, tmp_path, layout):
    (tmp_path / NAME).write_text("precious")
    with pytest.raises(DownloadError, match="is a file, not a folder: move it away"):
        fetch(NAME, tmp_path, sources=server.offer(layout))
    assert (tmp_path / NAME).read_text() == "precious"


def test_an_unwritable_folder_is_named(server, tmp_path, layout):
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match=r"file/ml-latest-small cannot be written: "):
        fetch(NAME, tmp_path / "file", sources=server.offer(layout))


def closed_port(server, layout):
    # Listening on port 1 needs privileges, so nothing does.
    return server.offer(layout, url="http://127.0.0.1:1/data.zip")


def test_the_default_source_is_the_public_data_set(server, tmp_path, layout):
    assert default_source(tmp_path, sources=server.offer(layout)) == tmp_path / NAME


def test_without_a_network_ratings_are_synthetic(server, tmp_path, layout):
    messages = []

    folder = default_source(tmp_path, messages.append, sources=closed_port(server, layout))

    assert folder == tmp_path / "synthetic-sample"
    assert (folder / "ratings.csv").is_file()
    assert (folder / "movies.csv").is_file()
    assert len(messages) == 1
    assert "\n" not in messages[0]
    assert messages[0].startswith(f"using synthetic ratings in {folder} instead of {NAME}: ")
    reason = "Connection refused; check the network connection and try again"
    assert messages[0].endswith(f"data.zip could not be fetched: {reason}")


def test_synthetic_ratings_are_generated_once(server, tmp_path, layout):
    own = SyntheticConfig(n_users=5, n_items=20, mean_events=5)
    before = (write_sample(tmp_path / "synthetic-sample", own) / "ratings.csv").read_bytes()
    folder = default_source(tmp_path, sources=closed_port(server, layout))
    assert (folder / "ratings.csv").read_bytes() == before


def test_an_existing_public_data_set_is_the_default(server, tmp_path, layout):
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "ratings.csv").touch()
    assert default_source(tmp_path, sources=closed_port(server, layout)) == tmp_path / NAME


def test_synthetic_ratings_never_replace_a_corrupt_download(server, tmp_path, layout):
    sources = server.offer(layout, sha256="0" * 64)
    with pytest.raises(DownloadError, match="SHA256 hash of downloaded file"):
        default_source(tmp_path, sources=sources)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def sources(server, layout):
    return server.offer(layout)


def fetched(tmp_path, sources):
    folder = fetch(NAME, tmp_path, sources=sources)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    return (folder / "ratings.csv").read_bytes().startswith(b"userId")


@pytest.mark.parametrize(("status", "is_network"), [(404, False), (416, False), (503, True)])
def test_an_error_status_is_an_error(server, sources, refused, status, is_network):
    server.status = status
    error = refused(sources, f"the server answered {status}; try again")
    assert isinstance(error, NetworkError) == is_network


def test_an_invalid_address_is_an_error(server, layout, refused):
    error = refused(server.offer(layout, url="http://host:port/"), "fetched: .*; check the address")
    assert not isinstance(error, NetworkError)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/data.zip", "http://nowhere.invalid/data.zip"])
def test_an_unreachable_server_is_a_network_error(server, layout, refused, url):
    error = refused(server.offer(layout, url=url), "check the network connection and try again")
    assert isinstance(error, NetworkError)


def test_an_altered_archive_is_refused(server, sources, refused):
    server.body = server.body[:-1] + b"!"
    error = refused(sources, "expected [0-9a-f]{64} but got [0-9a-f]{64}.*try again, or see")
    assert not isinstance(error, NetworkError)


@pytest.mark.parametrize("status", [200, 206])
@pytest.mark.parametrize("declared", [None, -1, 100], ids=["declared", "undeclared", "too small"])
@pytest.mark.parametrize("change", [lambda body: body[:100], lambda body: body + b"x" * 9_000_000])
def test_too_few_and_too_many_bytes_are_refused(server, sources, refused, declared, status, change):
    server.declared, server.status = declared, status
    server.body = change(server.body)
    refused(sources, "gave other content than recorded")


@pytest.mark.parametrize("n_bytes", [0, 3000])
def test_a_broken_connection_is_a_network_error(server, sources, refused, tmp_path, n_bytes):
    whole, server.declared = server.body, len(server.body)
    server.body = whole[:n_bytes]
    assert isinstance(refused(sources, "check the network connection"), NetworkError)
    server.body = whole
    assert (fetch(NAME, tmp_path / "data", sources=sources) / "ratings.csv").is_file()


def test_a_slow_server_is_waited_for(server, sources, tmp_path):
    server.pause = 0.05
    assert fetched(tmp_path, sources)


def test_a_silent_server_is_a_network_error(server, sources, refused, monkeypatch):
    monkeypatch.setattr(public, "_TIMEOUT", (0.1, 0.1))
    server.stall_after = 1024
    assert isinstance(refused(sources, "timed out"), NetworkError)


def test_a_missing_package_is_named(server, sources, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ConfigError, match=r"pooch is not installed: pip install -e '\.\[train\]'"):
        fetch(NAME, tmp_path, sources=sources)


def test_two_downloads_at_once_do_not_interfere(server, sources, tmp_path):
    server.pause = 0.01
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(fetch, NAME, tmp_path, sources=sources) for _ in range(2)]
        assert [job.result() for job in jobs] == [tmp_path / NAME] * 2
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert (tmp_path / NAME / "ratings.csv").is_file()


def test_a_killed_download_leaves_nothing_that_can_be_loaded(server, sources, tmp_path):
    server.stall_after = 4096
    code = (
        "import sys; from pathlib import Path; from recsys.data.public import Source, fetch\n"
        "source = Source.model_validate_json(sys.argv[1])\n"
        "fetch(source.name, Path(sys.argv[2]), sources={source.name: source})\n"
    )
    arguments = [sys.executable, "-c", code, sources[NAME].model_dump_json(), str(tmp_path)]
    with subprocess.Popen(arguments) as process:
        deadline = time.monotonic() + 60
        while server.sent < 4096 and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        process.kill()
    assert server.sent == 4096
    assert not (tmp_path / NAME).exists()
    server.stall_after = None
    assert (fetch(NAME, tmp_path, sources=sources) / "ratings.csv").is_file()
