"""One training at a time on this machine, whoever starts it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout
from prefect import get_run_logger

from flows.paths import CACHE_DIR

LOCK = CACHE_DIR / "training.lock"


@contextmanager
def training_lock() -> Iterator[None]:
    """Wait until no other flow of this project trains, and keep others out within the block.

    Two trainings would share a GPU, the cores and the memory. The system itself takes the lock
    from a process that is gone, however it went; a slot that a server keeps would stay taken.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        get_run_logger().info("another flow trains: waiting for it to end")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
