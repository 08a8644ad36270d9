"""Sizes in bytes, and the memory that a process may use."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pydantic import ByteSize, TypeAdapter, ValidationError

from recsys.arguments import shown
from recsys.errors import ConfigError

_CGROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Limit and usage of a control group, and the name of its cached pages: version 2 and version 1."""


def parse_bytes(size: str | int) -> ByteSize:
    """Parse a number of bytes, such as "2GB" or "500 MB"; 1 KB is 1,000 bytes, 1 KiB 1,024."""
    try:
        return TypeAdapter(ByteSize).validate_python(size)
    except ValidationError as error:
        raise ConfigError(
            f"{shown(size)} is not a size in bytes: pass a number, or text like '2GB'"
        ) from error


def format_bytes(size: int) -> str:
    """Format a number of bytes, such as "1.5 GB"."""
    return ByteSize(size).human_readable(decimal=True, separator=" ")


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that can still be allocated, within the limits of the machine and of its container.

    `root` is the root of the file system.
    """
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, StopIteration):
        lines = (root / "proc/meminfo").read_text().splitlines()
        found = next(line for line in lines if line.startswith("MemAvailable:"))
        available = 1024 * int(found.split()[1])
    return min([available, *_available_to_groups(root)])


def _available_to_groups(root: Path) -> list[int]:
    """What the control group of this process and those around it leave, if they have limits."""
    left = []
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers in ("", "memory"):
                top = root / "sys/fs/cgroup" / controllers
                path = top / name.lstrip("/")
                # In a container the path may be that of the host; `top` is then the own group.
                groups = [path, *(parent for parent in path.parents if parent.is_relative_to(top))]
                left += [n for group in groups if (n := _left_in(group)) is not None]
    return left


def _left_in(group: Path) -> int | None:
    """The limit of a group minus what it uses. Cached pages of files count as free."""
    for limit, usage, pages in _CGROUP_FILES:
        with suppress(OSError, ValueError):  # no such file, or no limit: "max"
            left = int((group / limit).read_text()) - int((group / usage).read_text())
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            return max(left + int(stat.get(pages, 0)), 0)
    return None
