import os
import stat
import zipfile

import pytest

NAME = "ml-latest-small"


def _link(name):
    member = zipfile.ZipInfo(name)
    member.create_system = 3  # Unix: the upper half of external_attr is the file's mode
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


def _bzip2(name):
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
def test_an_unsafe_archive_is_refused(server, refused, name, content, match, layout):
    refused(server.offer([*layout.items(), (name, content)]), match)


def test_the_bound_holds_for_all_files_together(server, refused):
    parts = {f"{NAME}/{i}.csv": b"\0" * 60_000 for i in range(2)}
    refused(server.offer(parts), "more than 100000 bytes unpacked")


def test_a_size_that_the_archive_makes_up_does_not_help_it(server, refused):
    true_size, made_up = (5_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    server.offer({f"{NAME}/ratings.csv": b"\0" * 5_000_000})
    bomb = server.body
    assert bomb.count(true_size) == 2  # beside the file and in the directory
    refused(server.offer(bomb.replace(true_size, made_up)), "holds ")


def test_too_many_members_are_refused(server, refused):
    members = {f"{NAME}/{i}.csv": b"" for i in range(11)}
    refused(server.offer(members), "more than 10 members")


@pytest.mark.parametrize("body", [b"<html>no zip</html>", b"PK\x05\x06" + bytes(18), b"PK"])
def test_what_is_no_archive_is_refused(server, refused, body):
    refused(server.offer(body), "holds ")


def test_an_archive_cut_short_is_refused(server, refused, layout):
    server.offer(layout)
    refused(server.offer(server.body[:-30]), "holds ")


def test_a_damaged_member_is_refused(server, refused):
    server.offer({f"{NAME}/ratings.csv": os.urandom(1000)})
    body = bytearray(server.body)
    body[300] ^= 0xFF
    refused(server.offer(bytes(body)), "cannot be unpacked")
