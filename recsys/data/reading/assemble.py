"""From coded ratings to interactions: dense indices, in the order of watching."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.data.interactions import Interactions
from recsys.data.reading.catalogue import Catalogue, bare_catalogue
from recsys.data.reading.encode import CodedRatings
from recsys.data.reading.ids import Coded
from recsys.data.reading.order import count_codes, order_of_watching, take
from recsys.vocabulary import Vocabulary


def assemble(
    rows: CodedRatings, stays: NDArray[np.bool_] | None, catalogue: Catalogue | None
) -> tuple[Interactions, NDArray[Any]]:
    """Put the rows that stay in the order of watching.

    Args:
        rows: the ratings; those that stay have ids, and ratings and times that can be read. Its
            codes are used up: dense indices take their place in memory.
        stays: which of them are used, [n]; None for all.
        catalogue: what is known of the items.

    Returns:
        The interactions, and the position of each of their rows among `rows`.

    Raises:
        DataError: the catalogue does not fit the ids of the ratings.
    """
    positions = None if stays is None else np.flatnonzero(stays)
    user_index, users = _densify(rows.user, positions)
    item_index, items = _densify(rows.item, positions)
    timestamp = _only(rows.timestamp, positions)
    order, offsets = order_of_watching(user_index, timestamp, len(users))
    rating = _only(rows.rating, positions)
    interactions = Interactions(
        user_index=np.repeat(np.arange(len(users), dtype=np.int32), np.diff(offsets)),
        item_index=take(item_index, order),
        rating=None if rating is None else take(rating, order),
        timestamp=None if timestamp is None else take(timestamp, order),
        user_offsets=offsets,
        users=users,
        items=items,
        catalogue=catalogue.align(items) if catalogue else bare_catalogue(items),
    )
    return interactions, order if positions is None else positions[order]


def _densify(
    coded: Coded, positions: NDArray[np.int64] | None
) -> tuple[NDArray[np.int32], Vocabulary]:
    """Codes as indices into the sorted ids that are used."""
    codes = coded.codes if positions is None else coded.codes[positions]
    used = count_codes(codes, len(coded.distinct)) > 0
    ids = coded.ids(used)
    by_id = np.argsort(ids, kind="stable")
    index_of = np.full(len(used), -1, dtype=np.int32)
    index_of[np.flatnonzero(used)[by_id]] = np.arange(len(ids), dtype=np.int32)
    return take(index_of, codes, out=codes), Vocabulary(ids[by_id])


def _only(values: NDArray[Any] | None, positions: NDArray[np.int64] | None) -> Any:
    return values if values is None or positions is None else values[positions]
