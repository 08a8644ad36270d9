"""Explanations: which items of a history contribute to a recommendation.

Shapes: B histories, I explained items, N items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys import columns
from recsys.errors import QueryError
from recsys.recommender.bundle import PairCounts
from recsys.recommender.catalogue import Catalogue, Floats, Item, item_list
from recsys.recommender.results import Recommendations
from recsys.sessions import NumpySessionModel
from recsys.sessions.numpy_model import log_sum_exp

COOCCURRENCE = "cooccurrence"


@dataclass(frozen=True)
class Contribution:
    """The contribution of an item of the history to a recommended item."""

    item: int
    weight: float
    """Decrease of the recommended item's log-probability without this item, in nats."""
    cooccurrence: int | None
    """Number of users with a positive interaction with both. None if unknown."""


def items_to_explain(
    catalogue: Catalogue, items: Item | Sequence[Item], history: NDArray[np.int32]
) -> NDArray[np.int32]:
    """The indices of the items to explain.

    Raises:
        QueryError: An item is in the history.
        UnknownItemError: An item is not in the catalogue.
    """
    is_single = isinstance(items, str | int | np.generic)
    index = catalogue.indices("items", [items] if is_single else item_list("items", items))
    seen = np.intersect1d(index, history)
    if len(seen):
        title = catalogue.titles[seen[0]]
        raise QueryError(f"{title!r} is in the history: only new items are recommended")
    return index


def contributions(
    model: NumpySessionModel,
    counts: PairCounts | None,
    history: NDArray[np.int32],
    items: NDArray[np.integer],
    k: int,
) -> list[list[Contribution]]:
    """The k items of the history that contribute most to each of `items`.

    Computed by occlusion (Zeiler & Fergus 2014): the weight of an item is the decrease of the
    recommended item's log-probability when it is removed from the history. The probability is over
    the items that are not in the history. All shortened histories are encoded as one batch.
    """
    distinct = np.unique(history)
    occluded = [history[history != item] for item in distinct]
    logits_BN = model.batch_logits([*occluded, history])
    logits_BN[:, history] = -np.inf
    log_p_BI: Floats = logits_BN[:, items] - log_sum_exp(logits_BN)
    weight_BI = log_p_BI[-1] - log_p_BI[:-1]
    result = []
    for column, item in enumerate(items.tolist()):
        order = np.argsort(-weight_BI[:, column], kind="stable")[:k]
        result.append(
            [
                Contribution(
                    int(distinct[row]),
                    float(weight_BI[row, column]),
                    None if counts is None else counts.count(int(distinct[row]), item),
                )
                for row in order
            ]
        )
    return result


def explanations_table(
    catalogue: Catalogue,
    items: NDArray[np.integer],
    contributions_of: Sequence[Sequence[Contribution]],
) -> Recommendations:
    """One row per contribution to each of `items`."""
    lengths = [len(each) for each in contributions_of]
    flat = list(chain.from_iterable(contributions_of))
    explained = np.repeat(items, lengths)
    because = np.array([each.item for each in flat], np.int64)
    ranks = chain.from_iterable(range(1, n + 1) for n in lengths)
    sentences = [
        _sentence(catalogue, item, each)
        for item, each in zip(items.tolist(), contributions_of, strict=True)
    ]
    return Recommendations(
        {
            columns.ITEM_ID: catalogue.ids[explained],
            columns.TITLE: catalogue.titles[explained],
            columns.RANK: np.fromiter(ranks, np.int64),
            "because_item_id": catalogue.ids[because],
            "because_title": catalogue.titles[because],
            columns.SCORE: np.array([each.weight for each in flat]),
            COOCCURRENCE: pd.array([each.cooccurrence for each in flat], dtype="Int64"),
            "sentence": np.repeat(np.array(sentences, dtype=object), lengths),
        }
    )


def _sentence(catalogue: Catalogue, item: int, found: Sequence[Contribution]) -> str:
    title = catalogue.titles[item]
    reasons = [
        catalogue.titles[each.item]
        + (f" ({each.cooccurrence:,} users in common)" if each.cooccurrence else "")
        for each in found
        if each.weight > 0
    ]
    if not reasons:
        return f"{title}: no item of the history makes it more likely than its popularity does."
    *first, last = reasons
    listed = f"{', '.join(first)} and {last}" if first else last
    return f"{title}, because of {listed}."
