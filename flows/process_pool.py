"""No process of a pool outlives the flow that started it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from functools import cache
from multiprocessing.process import BaseProcess


@cache
def exit_with_parent() -> None:
    """In a process of a pool: end when the process that started it does, and not before.

    A pool whose owner was killed would go on with what is left to do, and then wait for more for
    ever. Ending is safe at any moment: the next flow takes up what is half done from its
    checkpoint. Ctrl-C, which reaches all processes of a terminal, is left to the owner. Elsewhere
    this does nothing.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        # Workers of Dask run tasks beside their main thread, the only one that may set signals.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_end_after, args=[parent], daemon=True).start()


def terminate_pool() -> None:
    """In the owner: end the processes at once, whatever they do."""
    for process in multiprocessing.active_children():
        process.terminate()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
