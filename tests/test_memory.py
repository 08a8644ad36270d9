"""Sizes in bytes, and the memory that the limits of a machine and its container leave."""

import pytest

from recsys.config import Runtime
from recsys.errors import ConfigError
from recsys.memory import available_memory, format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2 * 10**9), (" 1.5 mb ", 1_500_000), ("17", 17), (17, 17), ("2 GiB", 2**31)],
)
def test_sizes_are_parsed(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("size", "text"), [(999, "999 B"), (1_540_000_000, "1.5 GB"), (2 * 10**12, "2.0 TB")]
)
def test_sizes_are_formatted(size, text):
    assert format_bytes(size) == text


@pytest.mark.parametrize("text", ["much", "2 GX", "-1", ""])
def test_invalid_sizes_are_rejected(text):
    with pytest.raises(
        ConfigError, match="is not a size in bytes: pass a number, or text like '2GB'"
    ):
        parse_bytes(text)


@pytest.fixture
def machine(tmp_path):
    """A file system with 8 GB available; returns a function that writes a file."""

    def write(path, content):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)

    write("proc/meminfo", "MemTotal:    9000000 kB\nMemAvailable:    8000000 kB\n")
    return tmp_path, write


def test_a_machine_without_groups(machine):
    assert available_memory(machine[0]) == 8_000_000 * 1024


@pytest.mark.parametrize(
    ("line", "folder", "files"),
    [
        ("0::/user/job", "", ("memory.max", "memory.current", "inactive_file")),
        (
            "4:memory:/user/job",
            "memory",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ),
    ],
)
@pytest.mark.parametrize("group", ["", "user", "user/job"])
def test_the_limit_of_the_own_group_or_of_one_around_it(machine, line, folder, files, group):
    root, write = machine
    limit, usage, pages = files
    write("proc/self/cgroup", f"7:pids:/\n{line}\n")
    where = f"sys/fs/cgroup/{folder}/{group}"
    write(f"{where}/{usage}", "3000\n")
    write(f"{where}/memory.stat", f"anon 1\n{pages} 400\n")
    write(f"{where}/{limit}", "max\n")
    assert available_memory(root) == 8_000_000 * 1024
    write(f"{where}/{limit}", "5000\n")
    assert available_memory(root) == 5000 - 3000 + 400


def test_memory_limit_is_a_size():
    assert Runtime(memory_limit="2GB").memory_bytes() == 2 * 10**9
    assert Runtime(memory_limit=10**9).memory_bytes() == 10**9
    assert 0 < Runtime().memory_bytes() < 2**50
    with pytest.raises(ConfigError, match="'much' is not a size in bytes"):
        Runtime(memory_limit="much")
