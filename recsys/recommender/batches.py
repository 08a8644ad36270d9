"""Recommendations for many at once.

Shapes: B histories, N items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys import columns
from recsys.config import available_threads
from recsys.errors import QueryError
from recsys.recommender.answers import Recommendations
from recsys.recommender.catalogue import Catalogue
from recsys.recommender.ranking import Floats
from recsys.recommender.scoring import Histories, Ranked, Scoring
from recsys.recommender.wishes import Wishes
from recsys.sessions.numpy_model import NumpySessionModel

_HISTORIES = 256
"""Histories gone through at once."""

_SCORES = 2_000_000
"""Scores held at once by each thread: few enough to stay in the cache."""

_T = TypeVar("_T")


def histories_of(
    catalogue: Catalogue, histories: object
) -> tuple[str, NDArray[Any], list[NDArray[np.int32]]]:
    """What the first column is called, the names in it, and what each watched.

    Raises:
        QueryError: these are no histories.
        UnknownItemError: one of them holds what the catalogue does not.
    """
    if isinstance(histories, str | bytes) or not isinstance(histories, Sequence | Mapping):
        raise QueryError("histories has to be a list of histories, or histories by user_id")
    by_name = isinstance(histories, Mapping)
    named = dict(histories) if isinstance(histories, Mapping) else dict(enumerate(histories))
    watched = [
        catalogue.indices(f"histories[{name!r}]", history) for name, history in named.items()
    ]
    return columns.USER_ID if by_name else "row", _names_of(list(named)), watched


def expected_after(model: NumpySessionModel, watched: Histories) -> Floats:
    """What the session model expects after each of many histories, [B, D]; zero after none."""

    def run(start: int) -> Floats:
        some = watched[start : start + _HISTORIES]
        expected_BD = np.zeros((len(some), model.item_embeddings_ND.shape[1]), np.float32)
        going = [row for row, history in enumerate(some) if len(history)]
        if going:
            expected_BD[going] = model.encode_batch([some[row] for row in going])
        return expected_BD

    parts = _in_threads(run, range(0, len(watched), _HISTORIES))
    return np.concatenate([np.empty((0, model.item_embeddings_ND.shape[1]), np.float32), *parts])


def rank_many(scoring: Scoring, expected_BD: Floats, watched: Histories, wishes: Wishes) -> Ranked:
    """Rank for many histories, some at a time.

    Args:
        scoring: of the recommender.
        expected_BD: what the session model expects after each history.
        watched: the histories.
        wishes: what is asked for.
    """
    started_B = np.array([len(history) > 0 for history in watched], dtype=np.bool_)
    at_once = max(16, _SCORES // scoring.model.n_items)

    def rank(start: int) -> Ranked:
        some = slice(start, start + at_once)
        logits_BN = scoring.model.query_logits(expected_BD[some], started_B[some])
        part = scoring.rank(logits_BN, watched[some], wishes)
        return Ranked(part.row + start, part.index, part.score, part.probability)

    parts = [_NOTHING, *_in_threads(rank, range(0, len(watched), at_once))]
    return Ranked(
        np.concatenate([part.row for part in parts]),
        np.concatenate([part.index for part in parts]),
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.probability for part in parts]),
    )


_NOTHING = Ranked(
    np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.float32)
)


def _in_threads(work: Callable[[int], _T], starts: range) -> list[_T]:
    """The work of each part, in order, on as many threads as there are cores."""
    if len(starts) <= 1:
        return [work(start) for start in starts]
    with ThreadPoolExecutor(min(available_threads(), len(starts))) as pool:
        return list(pool.map(work, starts))


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


def _names_of(ids: Sequence[Any]) -> NDArray[Any]:
    """Ids as an array that gives them back as they are."""
    all_int = all(type(each) is int for each in ids)
    return np.array(ids, dtype=np.int64 if all_int else object)
