import hashlib
import os

import httpx
import pytest

from recsys.data import download
from recsys.data.public import fetch
from recsys.errors import DownloadError, NetworkError

NAME = "ml-latest-small"
PART, NOTES = f".{NAME}.zip.part", f".{NAME}.zip.json"


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """The pauses between attempts, told instead of made."""
    told = []
    monkeypatch.setattr("recsys.data.download.sleep", told.append)
    return told


@pytest.fixture
def sources(server, layout):
    return server.offer(layout)


@pytest.fixture
def half(server, sources, tmp_path):
    """A download that broke off in each attempt, with 4000 bytes in the last."""
    server.ranges = False
    server.breaks = [4000] * 4
    with pytest.raises(NetworkError):
        fetch(NAME, tmp_path, sources=sources)
    assert (tmp_path / PART).stat().st_size == 4000
    server.ranges = True
    server.asked.clear()
    return sources


def fetched(tmp_path, sources):
    folder = fetch(NAME, tmp_path, sources=sources)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    return (folder / "ratings.csv").read_bytes().startswith(b"userId")


def test_a_connection_that_breaks_is_continued(server, sources, tmp_path, pauses):
    server.breaks = [3000, 2000]
    assert fetched(tmp_path, sources)
    assert server.asked == [None, "bytes=3000-", "bytes=5000-"]
    assert pauses == [0.5, 1.0]


def test_one_that_breaks_again_and_again_is_given_up(server, sources, tmp_path, pauses):
    server.breaks = [1000] * 9
    with pytest.raises(NetworkError, match="check the network connection and try again: what"):
        fetch(NAME, tmp_path, sources=sources)
    assert server.asked == [None, "bytes=1000-", "bytes=2000-", "bytes=3000-"]
    assert pauses == [0.5, 1.0, 2.0]
    assert {path.name for path in tmp_path.iterdir()} == {PART, NOTES}


def test_the_next_call_continues(server, half, tmp_path):
    assert fetched(tmp_path, half)
    assert server.asked == ["bytes=4000-"]


def test_the_date_tells_versions_apart_where_there_is_no_strong_tag(server, sources, tmp_path):
    server.etag, server.modified = 'W/"weak"', "Mon, 01 Jan 2024 00:00:00 GMT"
    server.breaks = [4000]
    assert fetched(tmp_path, sources)
    assert server.asked == [None, "bytes=4000-"]


def test_without_a_version_all_is_asked_for_again(server, sources, tmp_path):
    server.etag, server.breaks = None, [4000]
    assert fetched(tmp_path, sources)
    assert server.asked == [None, None]


def test_a_server_that_knows_of_no_ranges_is_taken_at_its_word(server, half, tmp_path):
    server.ranges = False
    assert fetched(tmp_path, half)
    assert server.asked == ["bytes=4000-"]


def test_another_version_is_not_glued_to_the_first(server, half, tmp_path, layout):
    server.offer(layout | {f"{NAME}/tags.csv": os.urandom(8_000)})
    server.etag = '"second"'
    changed = hashlib.sha256(server.body).hexdigest()
    with pytest.raises(DownloadError, match=f"SHA-256 {changed}, not the"):
        fetch(NAME, tmp_path, sources=half)
    assert server.asked == ["bytes=4000-"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "oddity",
    [
        {"etag": '"second"', "if_ranges": False},
        {"range_status": 416},
        {"range_shift": -10},
        {"range_shift": 10},
    ],
)
def test_an_answer_that_does_not_continue_is_asked_for_anew(server, half, tmp_path, oddity):
    for name, value in oddity.items():
        setattr(server, name, value)
    assert fetched(tmp_path, half)
    assert server.asked == ["bytes=4000-", None]


@pytest.mark.parametrize("notes", [None, "", "[]", '{"of": "another file", "version": "1"}', "{}"])
def test_a_part_of_who_knows_what_is_dropped(server, half, tmp_path, notes):
    (tmp_path / NOTES).unlink()
    if notes is not None:
        (tmp_path / NOTES).write_text(notes)
    assert fetched(tmp_path, half)
    assert server.asked == [None]


def test_a_part_that_is_too_long_is_dropped(server, half, tmp_path):
    (tmp_path / PART).write_bytes(bytes(half[NAME].bytes + 1))
    assert fetched(tmp_path, half)
    assert server.asked == [None]


def test_a_part_with_wrong_bytes_is_found_out(server, half, tmp_path):
    (tmp_path / PART).write_bytes(bytes(4000))
    with pytest.raises(DownloadError, match="SHA-256"):
        fetch(NAME, tmp_path, sources=half)
    assert not list(tmp_path.iterdir())
    assert fetched(tmp_path, half)


def test_what_has_come_whole_is_not_asked_for_again(server, half, tmp_path):
    (tmp_path / PART).write_bytes(server.body)
    assert fetched(tmp_path, half)
    assert server.asked == []


@pytest.mark.parametrize(("status", "error"), [(404, DownloadError), (500, NetworkError)])
def test_an_error_does_not_cost_what_has_come(server, half, tmp_path, status, error):
    server.status = server.range_status = status
    with pytest.raises(error, match=f"the server answered {status}; try again"):
        fetch(NAME, tmp_path, sources=half)
    server.status, server.range_status = 200, None
    assert fetched(tmp_path, half)
    assert server.asked == ["bytes=4000-"] * 2


@pytest.mark.parametrize(("status", "is_networks_fault"), [(404, False), (416, False), (503, True)])
def test_an_answer_that_is_no_data_set_is_refused(
    server, sources, refused, pauses, status, is_networks_fault
):
    server.status = status
    error = refused(sources, f"the server answered {status}; try again")
    assert isinstance(error, NetworkError) == is_networks_fault
    assert not pauses


def test_a_part_that_nobody_asked_for_is_refused(server, sources, refused):
    server.status = 206
    server.range_shift = 10
    refused(sources, "gave a part that was not asked for")


def test_an_address_that_makes_no_sense_is_refused(server, layout, refused):
    sources = server.offer(layout, url="http://host:port/")
    refused(sources, "fetched: .*; check the address")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/data.zip", "http://nowhere.invalid/data.zip"])
def test_without_a_network_it_fails_at_once(server, layout, refused, pauses, url):
    error = refused(server.offer(layout, url=url), "check the network connection and try again")
    assert isinstance(error, NetworkError)
    assert not pauses


def test_wrong_bytes_are_refused(server, sources, refused):
    server.body = server.body[:-1] + b"!"
    error = refused(sources, "SHA-256 [0-9a-f]{64}, not the [0-9a-f]{64} on record")
    assert not isinstance(error, NetworkError)


def test_too_many_bytes_are_refused_as_soon_as_they_come(server, sources, refused):
    server.body += b"x" * 50_000_000
    refused(sources, "gave more than the [0-9]+ bytes on record")
    assert server.sent < 20_000_000


@pytest.mark.parametrize("declared", [None, -1], ids=["declared", "undeclared"])
def test_too_few_bytes_are_refused(server, sources, refused, declared):
    server.declared = declared
    server.body = server.body[:100]
    refused(sources, "gave 100 bytes, not the [0-9]+ on record")


def test_fewer_bytes_declared_than_there_are_are_too_few(server, sources, refused):
    server.declared = 100
    refused(sources, "gave 100 bytes, not the [0-9]+ on record")


def test_more_bytes_declared_than_there_are_do_no_harm(server, sources, tmp_path):
    server.declared = len(server.body) + 100
    assert fetched(tmp_path, sources)
    assert server.asked == [None]


def test_a_slow_server_is_waited_for(server, sources, tmp_path):
    server.pause = 0.05
    assert fetched(tmp_path, sources)
    assert server.asked == [None]


def test_a_server_that_falls_silent_is_given_up(server, sources, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT", httpx.Timeout(0.1))
    server.stall_after = 1024
    with pytest.raises(NetworkError, match="timed out"):
        fetch(NAME, tmp_path, sources=sources)
    assert len(server.asked) == 4
    assert (tmp_path / PART).stat().st_size == 4096
