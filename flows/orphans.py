"""No process of a pool outlives the flow that started it."""

from __future__ import annotations

import multiprocessing
import os
import threading
from functools import cache
from multiprocessing.process import BaseProcess


@cache
def end_with_parent() -> None:
    """In a process of a pool: end at once when the process that started it is gone.

    A pool whose owner was killed would go on with what is left to do, and then wait for more for
    ever. Ending is safe at any moment: the next flow takes up what is half done from its
    checkpoint. Elsewhere this does nothing.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=[parent], daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
