"""Recommendations for many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from recsys import columns
from recsys.errors import QueryError
from recsys.recommender.answers import Recommendations
from recsys.recommender.catalogue import Item
from recsys.recommender.scoring import Wishes
from recsys.recommender.tables import ranking
from recsys.vocabulary import ID

if TYPE_CHECKING:
    from recsys.recommender.recommender import Recommender

_AT_ONCE = 256
ROW = "row"


def recommend(
    rec: Recommender,
    histories: Sequence[Sequence[Item]] | Mapping[ID, Sequence[Item]],
    wishes: Wishes,
) -> Recommendations:
    """All lists one after the other."""
    if isinstance(histories, str | bytes) or not isinstance(histories, Sequence | Mapping):
        raise QueryError("histories has to be a list of histories, or histories by user_id")
    by_name = isinstance(histories, Mapping)
    names = list(histories) if by_name else list(range(len(histories)))
    each = list(histories.values()) if isinstance(histories, Mapping) else list(histories)
    watched = [
        rec.catalogue.indices(f"histories[{n!r}]", h) for n, h in zip(names, each, strict=True)
    ]
    parts = []
    for start in range(0, len(watched), _AT_ONCE):
        some = watched[start : start + _AT_ONCE]
        logits_BN = rec.scoring.model.logits_after(some)
        parts += [
            rec.scoring.rank(logits_N, of, wishes)
            for logits_N, of in zip(logits_BN, some, strict=True)
        ]
    lengths = [len(part.index) for part in parts]
    tables = [ranking(rec.catalogue, part).unmade() for part in parts]
    first = np.repeat(np.array(names, dtype=object if by_name else np.int64), lengths)
    columns_ = {columns.USER_ID if by_name else ROW: first}
    for name in (columns.RANK, columns.ITEM_ID, columns.TITLE, columns.SCORE, columns.PROBABILITY):
        columns_[name] = np.concatenate([table[name] for table in tables]) if tables else first
    return Recommendations(columns_)
