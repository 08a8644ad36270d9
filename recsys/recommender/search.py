"""Titles that are spelt like what someone typed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from rapidfuzz import fuzz, process
from rapidfuzz.utils import default_process

from recsys.recommender.ranking import Floats
from recsys.titles import display_title

_LOWEST = 60.0
"""Percent of likeness below which a title is not like a query at all."""


class TitleSearch:
    """Search by title that forgives typing errors, word order, articles and a missing year.

    Example:
        >>> search = TitleSearch(["Matrix, The (1999)", "Heat (1995)"])
        >>> bool(search.likeness("the matirx")[0] > 0.85), search.likeness("the matirx")[1].item()
        (True, -inf)
    """

    def __init__(self, titles: Sequence[str]) -> None:
        self._written = [default_process(title) for title in titles]
        self._spoken = [default_process(display_title(title)) for title in titles]

    def likeness(self, query: str) -> Floats:
        """How like the query each title is: 1 if the same, minus infinity if not at all, [N]."""
        wanted = default_process(query)
        if not wanted:
            return np.full(len(self._written), -np.inf, dtype=np.float32)
        likeness_N = np.maximum(
            _percent(wanted, self._spoken, fuzz.ratio),
            # With the year, or words in another order, are nearly as good; parts of it, less so.
            np.maximum(
                0.98 * _percent(wanted, self._written, fuzz.token_sort_ratio),
                0.9 * self._as_part(wanted),
            ),
        )
        likeness_N[likeness_N < _LOWEST] = -np.inf
        share_N: Floats = likeness_N / np.float32(100.0)
        return share_N

    def _as_part(self, wanted: str) -> Floats:
        """How alike the words of the query are to some of the title's, in percent, [N]."""
        if len(wanted) < 3:  # one or two letters are part of everything
            begins = re.compile(rf"\b{re.escape(wanted)}")
            return np.array([100.0 if begins.search(t) else 0.0 for t in self._spoken], np.float32)
        partial = _percent(wanted, self._spoken, fuzz.partial_ratio)
        # A short title is part of many a long query, without being meant.
        long_enough = np.array([len(title) >= len(wanted) for title in self._spoken])
        return np.where(long_enough, partial, 0.0).astype(np.float32)


def _percent(wanted: str, titles: Sequence[str], scorer: Callable[..., float]) -> Floats:
    scores: Floats = process.cdist([wanted], titles, scorer=scorer, dtype=np.float32)[0]
    return scores
