"""Explanations: which items of a history contribute to a recommendation.

Shapes: B histories, I explained items, N items, K contributions to each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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

_STEPS_PER_BATCH = 4096
"""Steps of the session model computed at once; they use some 50 MB."""


def items_to_explain(
    catalogue: Catalogue,
    items: Item | Sequence[Item],
    history: NDArray[np.int32],
    *,
    repeats: bool = False,
) -> NDArray[np.int32]:
    """The indices of the items to explain.

    Raises:
        QueryError: An item is in the history, and items do not repeat.
        UnknownItemError: An item is not in the catalogue.
    """
    is_single = isinstance(items, str | int | np.generic)
    index = catalogue.indices("items", [items] if is_single else item_list("items", items))
    seen = np.intersect1d(index, history)
    if len(seen) and not repeats:
        title = catalogue.titles[seen[0]]
        raise QueryError(f"{title!r} is in the history: only new items are recommended")
    return index


def contributions_table(
    catalogue: Catalogue,
    model: NumpySessionModel,
    counts: PairCounts | None,
    history: NDArray[np.int32],
    items: NDArray[np.integer],
    k: int,
    on_step: Callable[[], object],
) -> Recommendations:
    """One row for each of the k items of the history that contribute most to each of `items`.

    Computed by occlusion (Zeiler & Fergus 2014): the weight of an item is the decrease of the
    recommended item's log-probability, in nats, when it is removed from the history. The
    probability is over the items that may be recommended. The shortened histories are encoded in
    batches; `on_step` is called before each. Items before the latest `max_history` have no weight.
    """
    distinct = np.unique(history[-model.config.max_history :])
    shortened = [*(history[history != item] for item in distinct), history]
    size = max(8, _STEPS_PER_BATCH // min(len(history), model.config.max_history))
    parts = []
    for start in range(0, len(shortened), size):
        on_step()
        logits_BN = model.batch_logits(shortened[start : start + size])
        if not model.repeats:
            logits_BN[:, history] = -np.inf
        parts.append(logits_BN[:, items] - log_sum_exp(logits_BN))
    log_p_BI: Floats = np.concatenate(parts)
    weight_BI = log_p_BI[-1] - log_p_BI[:-1]
    order_KI = np.argsort(-weight_BI, axis=0, kind="stable")[:k]
    k = len(order_KI)
    explained, because = np.repeat(items, k), distinct[order_KI].ravel("F")
    weights = np.take_along_axis(weight_BI, order_KI, axis=0).ravel("F").astype(np.float64)
    pairs = zip(because.tolist(), explained.tolist(), strict=True)
    numbers = [None if counts is None else counts.count(*pair) for pair in pairs]
    rows = list(zip(catalogue.titles[because], weights, numbers, strict=True))
    sentences = [
        _sentence(catalogue.titles[item], rows[n * k : (n + 1) * k]) for n, item in enumerate(items)
    ]
    return Recommendations(
        {
            columns.ITEM_ID: catalogue.ids[explained],
            columns.TITLE: catalogue.titles[explained],
            columns.RANK: np.tile(np.arange(1, k + 1), len(items)),
            "because_item_id": catalogue.ids[because],
            "because_title": catalogue.titles[because],
            columns.SCORE: weights,
            "cooccurrence": pd.array(numbers, dtype="Int64"),
            "sentence": np.repeat(np.array(sentences, dtype=object), k),
        }
    )


def _in_common(n_users: int | None) -> str:
    return f" ({n_users:,} user{'s' if n_users > 1 else ''} in common)" if n_users else ""


def _sentence(title: str, rows: Sequence[tuple[str, float, int | None]]) -> str:
    """All contributions in words. Each row is a title, its weight and the users in common."""
    reasons = [f"{because}{_in_common(number)}" for because, weight, number in rows if weight > 0]
    if not reasons:
        return f"{title}: no item of the history makes it more likely than its popularity does."
    *first, last = reasons
    listed = f"{', '.join(first)} and {last}" if first else last
    return f"{title}, because of {listed}."
