"""How long a model takes to answer."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.ranking import Scorer, top_items

ASKED = 100
"""Histories that are answered one by one."""


def measure_latency(
    model: Scorer, histories: Sequence[NDArray[np.int32]], k: int = 10, quantile: float = 0.95
) -> float:
    """Milliseconds from one history to its k items, at a quantile over up to `ASKED` histories.

    Raises:
        ValueError: there are no histories.
    """
    asked = [histories[at] for at in range(min(len(histories), ASKED))]
    if not asked:
        raise ValueError("there are no histories to be answered")
    top_items(model, asked[:1], k)  # what is compiled or loaded on the first call is not counted
    seconds = []
    for history in asked:
        start = time.perf_counter()
        top_items(model, [history], k)
        seconds.append(time.perf_counter() - start)
    return float(np.quantile(seconds, quantile) * 1000)
