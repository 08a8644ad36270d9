"""The rank of the one right item among all items, and the items ranked first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from recsys.config import available_threads
from recsys.evaluation.factored import HISTORIES, DotProductScorer, ItemBlocks
from recsys.evaluation.standing import Standing


class Scorer(Protocol):
    """Anything that can be evaluated: it gives every item a score for what comes next."""

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Scores of all items, higher is better, [B, n_items], in a new array."""
        ...


@dataclass(frozen=True, eq=False)
class Ranking:
    """Where the targets came, and what came first."""

    ranks: NDArray[np.int64]
    """Rank of each target, one is best, [n]; 0 where there is no target."""
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
    within: int | None = None,
    batch_size: int | None = None,
) -> Ranking:
    """Rank each target among the whole catalogue, and list what is ranked before all else.

    Of equal scores the item with the lower index ranks first, whatever the batch size. A score
    that is not a number ranks as minus infinity. Memory is that of a batch's scores; of a
    `DotProductScorer`, that of a batch's vectors and one block of scores for each thread.

    Args:
        scorer: the model.
        histories: item indices, oldest first, one array per target.
        targets: the item that came next, [n]; −1 where only the list is wanted.
        k: how many items to list.
        mask_seen: leave out the items of the history, except the target itself.
        within: what is asked is the rank within so many places, and `within` + 1 stands for all
            ranks beyond. All that metrics at k need, and a `DotProductScorer` is asked for few
            scores of the rest, unless lists are wanted.
        batch_size: histories that the model is asked about at once; None lets it depend on the
            kind of model.
    """
    n = len(targets)
    targets = targets.astype(np.int32, copy=False)
    ranking = Ranking(np.empty(n, dtype=np.int64), np.empty((n, k), dtype=np.int32))
    threads = max(1, min(available_threads(), n))
    ask, usual_size = _feeds(scorer, threads)

    def rank_rows(rows: slice, feed: Feed, start: int) -> None:
        here = slice(rows.start + start, rows.stop + start)
        seen = histories[here] if mask_seen else [_NOTHING] * len(targets[here])
        standing = Standing(seen, targets[here], k, within)
        feed(rows, standing)
        ranking.ranks[here] = standing.ranks
        ranking.recommended[here] = standing.top

    with ThreadPoolExecutor(threads) as pool, _blas_threads(scorer, threads):
        for start in range(0, n, batch_size or usual_size):
            asked = histories[start : start + (batch_size or usual_size)]
            feed = ask(asked)
            cuts = np.linspace(0, len(asked), threads + 1).astype(int).tolist()
            jobs = [pool.submit(rank_rows, slice(*cut), feed, start) for cut in pairwise(cuts)]
            for job in jobs:
                job.result()
    return ranking


def rank_targets(
    scorer: Scorer,
    histories: Sequence[NDArray[np.int32]],
    targets: NDArray[np.int32],
    batch_size: int | None = None,
) -> NDArray[np.int64]:
    """Rank each target among the items not seen, one is best, [n]; see `rank`."""
    return rank(scorer, histories, targets, batch_size=batch_size).ranks


def top_items(
    scorer: Scorer,
    histories: Sequence[NDArray[np.int32]],
    k: int,
    *,
    mask_seen: bool = True,
    batch_size: int | None = None,
) -> NDArray[np.int32]:
    """The k items ranked first for each history, [n, k]; see `rank`."""
    nobody = np.full(len(histories), -1, dtype=np.int32)
    return rank(
        scorer, histories, nobody, k, mask_seen=mask_seen, batch_size=batch_size
    ).recommended


_NOTHING = np.empty(0, dtype=np.int32)

Feed = Callable[[slice, Standing], None]
"""Lets a standing have the scores of some rows of a batch."""


def _feeds(
    scorer: Scorer, threads: int
) -> tuple[Callable[[Sequence[NDArray[np.int32]]], Feed], int]:
    """How to get at the scores of a batch of histories, and how many make a good batch."""
    if not isinstance(scorer, DotProductScorer):
        return lambda histories: _all_at_once(scorer.score(histories)), BATCH_SIZE
    factored, items = scorer, ItemBlocks.of(scorer.item_vectors)

    def in_blocks(histories: Sequence[NDArray[np.int32]]) -> Feed:
        users_BD = factored.user_vectors(histories)
        return lambda rows, standing: items.rank(users_BD[rows], standing)

    return in_blocks, HISTORIES * threads


def _all_at_once(scores_BN: NDArray[np.float32]) -> Feed:
    def feed(rows: slice, standing: Standing) -> None:
        scores = scores_BN[rows]
        standing.begin(scores[np.arange(len(scores)), standing.wanted])
        standing.add(scores, 0, scores.shape[1])

    return feed


def _blas_threads(scorer: Scorer, threads: int) -> AbstractContextManager[Any]:
    """Where the blocks of several threads are multiplied side by side, each by one thread."""
    if threads == 1 or not isinstance(scorer, DotProductScorer):
        return nullcontext()
    limited: AbstractContextManager[Any] = _blas().limit(limits=1, user_api="blas")
    return limited


@cache
def _blas() -> ThreadpoolController:
    """The libraries that multiply; looked for once, since that takes milliseconds."""
    return ThreadpoolController()
