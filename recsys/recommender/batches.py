"""Recommendations for many at once.

Shapes: B histories, N items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys import columns
from recsys.config import available_threads
from recsys.recommender.answers import Recommendations
from recsys.recommender.catalogue import Catalogue
from recsys.recommender.ranking import Floats
from recsys.recommender.scoring import Histories, Ranked, Scoring, Wishes

_AT_ONCE = 256
"""Histories scored at once: of 60,000 items, 60 MB of scores for each thread."""


def rank_many(
    scoring: Scoring,
    logits_of: Callable[[slice], Floats],
    watched: Histories,
    wishes: Wishes,
) -> Ranked:
    """Rank for many histories, some at a time, on as many threads as there are cores.

    Args:
        scoring: of the recommender.
        logits_of: the session model's logits for some of the histories, [B, N].
        watched: the histories.
        wishes: what is asked for.
    """

    def rank(start: int) -> Ranked:
        some = slice(start, start + _AT_ONCE)
        part = scoring.rank(logits_of(some), watched[some], wishes)
        return Ranked(part.row + start, part.index, part.score, part.probability)

    starts = range(0, len(watched), _AT_ONCE)
    with ThreadPoolExecutor(min(available_threads(), max(len(starts), 1))) as pool:
        parts = list(pool.map(rank, starts))
    return Ranked(
        _join((part.row for part in parts), np.int64),
        _join((part.index for part in parts), np.int64),
        _join((part.score for part in parts), np.float32),
        _join((part.probability for part in parts), np.float32),
    )


def table(catalogue: Catalogue, ranked: Ranked, first: str, names: NDArray[Any]) -> Recommendations:
    """All lists one after the other, whose each is in the first column."""
    start_of_row = np.searchsorted(ranked.row, ranked.row)
    return Recommendations(
        {
            first: names[ranked.row],
            columns.RANK: np.arange(1, len(ranked.row) + 1) - start_of_row,
            columns.ITEM_ID: catalogue.ids[ranked.index],
            columns.TITLE: catalogue.titles[ranked.index],
            columns.SCORE: ranked.score,
            columns.PROBABILITY: ranked.probability,
        }
    )


def names_of(ids: Sequence[Any]) -> NDArray[Any]:
    """Ids as an array that gives them back as they are."""
    all_int = all(type(each) is int for each in ids)
    return np.array(ids, dtype=np.int64 if all_int else object)


def _join(parts: Iterable[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *parts])
