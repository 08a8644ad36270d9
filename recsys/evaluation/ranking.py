"""The rank of the one right item among all items, and the items ranked first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.config import available_threads
from recsys.evaluation.kernels import rank_rows, top_rows


class Scorer(Protocol):
    """Anything that can be evaluated: it gives every item a score for what comes next."""

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Scores of all items, higher is better, [B, n_items], in a new array."""
        ...


@dataclass(frozen=True, eq=False)
class Ranking:
    """Where the targets came, and what came first."""

    ranks: NDArray[np.int64]
    """Rank of each target, one is best, [n]."""
    recommended: NDArray[np.int32]
    """The items ranked first, best first, [n, k]; −1 where there are fewer."""


BATCH_SIZE = 256
"""Histories scored at once: of 59,000 items, 60 MB of scores."""


def rank(
    scorer: Scorer,
    histories: Sequence[NDArray[np.int32]],
    targets: NDArray[np.int32],
    k: int = 0,
    *,
    mask_seen: bool = True,
    batch_size: int = BATCH_SIZE,
) -> Ranking:
    """Rank each target among the whole catalogue, and list what is ranked before all else.

    Of equal scores the item with the lower index ranks first, whatever the batch size. A score
    that is not a number ranks as minus infinity. Memory is that of a batch's scores.

    Args:
        scorer: the model.
        histories: item indices, oldest first, one array per target.
        targets: the item that came next, [n]; −1 where only the list is wanted.
        k: how many items to list.
        mask_seen: leave out the items of the history, except the target itself.
        batch_size: histories scored at once.
    """
    ranks = np.zeros(len(targets), dtype=np.int64)
    recommended = np.empty((len(targets), k), dtype=np.int32)
    threads = available_threads()
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(targets), batch_size):
            batch = slice(start, start + batch_size)
            scores = scorer.score(histories[batch])
            seen = list(histories[batch]) if mask_seen else [_NOTHING] * len(scores)
            part = targets[batch].astype(np.int32, copy=False)
            if (part >= 0).all():
                _by_rows(pool, threads, rank_rows, scores, seen, part, ranks[batch])
            if k:
                _by_rows(pool, threads, top_rows, scores, seen, part, recommended[batch])
    return Ranking(ranks, recommended)


def rank_targets(
    scorer: Scorer,
    histories: Sequence[NDArray[np.int32]],
    targets: NDArray[np.int32],
    batch_size: int = BATCH_SIZE,
) -> NDArray[np.int64]:
    """Rank each target among the items not seen, one is best, [n]; see `rank`."""
    return rank(scorer, histories, targets, batch_size=batch_size).ranks


def top_items(
    scorer: Scorer,
    histories: Sequence[NDArray[np.int32]],
    k: int,
    *,
    mask_seen: bool = True,
    batch_size: int = BATCH_SIZE,
) -> NDArray[np.int32]:
    """The k items ranked first for each history, [n, k]; see `rank`."""
    nobody = np.full(len(histories), -1, dtype=np.int32)
    return rank(
        scorer, histories, nobody, k, mask_seen=mask_seen, batch_size=batch_size
    ).recommended


_NOTHING = np.empty(0, dtype=np.int32)


def _by_rows(
    pool: ThreadPoolExecutor,
    threads: int,
    kernel: Callable[..., None],
    scores: NDArray[np.float32],
    seen: list[NDArray[np.int32]],
    targets: NDArray[np.int32],
    result: NDArray[Any],
) -> None:
    """Let each thread work on an equal part of the rows."""
    items = np.concatenate([*seen, _NOTHING])
    offsets = np.cumsum([0, *map(len, seen)])
    cuts = np.linspace(0, len(targets), threads + 1).astype(int)
    jobs = [
        pool.submit(
            kernel,
            scores[start:stop],
            items,
            offsets[start : stop + 1],
            targets[start:stop],
            result[start:stop],
        )
        for start, stop in pairwise(cuts)
    ]
    for job in jobs:
        job.result()
