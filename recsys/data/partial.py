"""A file that is still coming in: kept between attempts, and one process's at a time."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path


@dataclass(frozen=True)
class PartialFile:
    """What has come of a file, and which version of it that is."""

    file: BufferedRandom
    """Open for reading and for writing at its end."""
    notes: Path
    """Beside it: for which file it is, and the version that the server gave."""

    def n_bytes(self) -> int:
        """Count the bytes that have come."""
        return self.file.seek(0, os.SEEK_END)

    def version(self, of: str) -> str | None:
        """Tell which version has begun to come, if it is noted and is one of `of`."""
        try:
            notes = json.loads(self.notes.read_text(encoding="utf-8"))
        # Missing, or cut short by a kill: then nothing is known.
        except (FileNotFoundError, ValueError):
            return None
        is_known = isinstance(notes, dict) and notes.get("of") == of
        return str(notes["version"]) if is_known and notes.get("version") else None

    def begin(self, of: str, version: str | None) -> None:
        """Forget what has come; note which version comes from now on."""
        self.forget()
        notes = {"of": of, "version": version}
        self.notes.write_text(json.dumps(notes) + "\n", encoding="utf-8")

    def forget(self) -> None:
        """Drop the bytes that have come; an empty file is removed in the end."""
        self.file.truncate(0)


@contextmanager
def partial_file(path: Path, on_wait: Callable[[], None]) -> Iterator[PartialFile]:
    """Open a partial file, new or as it was left; while it is open no one else can open it.

    Args:
        path: where it is or shall be; its folder is made if need be.
        on_wait: called before waiting for another process that has it open.

    Yields:
        The file. It stays when the block ends, unless it is empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = PartialFile(_open_alone(path, on_wait), path.with_suffix(".json"))
    with part.file:
        try:
            yield part
        finally:
            if not part.n_bytes():
                part.notes.unlink(missing_ok=True)
                path.unlink(missing_ok=True)


def _open_alone(path: Path, on_wait: Callable[[], None]) -> BufferedRandom:
    """Open and lock a file; the lock goes when the file is closed or the process ends."""
    while True:
        file = path.open("a+b")
        try:
            _lock(file, on_wait)
            # Whoever had the lock may have removed the file: then this is not the one at path.
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _lock(file: BufferedRandom, on_wait: Callable[[], None]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        on_wait()
        fcntl.flock(file, fcntl.LOCK_EX)
