"""Why an item is recommended: which watched items speak for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.errors import QueryError
from recsys.recommender.arguments import items_of
from recsys.recommender.bundle import PairCounts
from recsys.recommender.catalogue import Catalogue, Item, names
from recsys.recommender.ranking import Floats
from recsys.recommender.scoring import log_sum_exp
from recsys.sessions.numpy_model import NumpySessionModel


@dataclass(frozen=True)
class Reason:
    """A watched item and how much it speaks for a recommended one."""

    watched: int
    weight: float
    """By how much the recommended item's log-probability falls without it, in nats."""
    cooccurrence: int | None
    """How many people liked both; None where it is not known."""


def explained_items(
    catalogue: Catalogue, items: Item | Sequence[Item], watched: NDArray[np.int32]
) -> NDArray[np.int32]:
    """The items that are to be explained.

    Raises:
        QueryError: one of them was watched.
        UnknownItemError: one of them is not there.
    """
    named = [items] if isinstance(items, str | int | np.generic) else items_of("items", items)
    chosen = catalogue.indices("items", named)
    again = np.intersect1d(chosen, watched)
    if len(again):
        title = catalogue.titles[again[0]]
        raise QueryError(f"{title!r} stands in the history: only what is new is recommended")
    return chosen


def reasons_for(
    model: NumpySessionModel,
    counts: PairCounts | None,
    watched: NDArray[np.int32],
    items: NDArray[np.integer],
    k: int,
) -> list[list[Reason]]:
    """For each item the k watched ones that speak most for it.

    Occlusion (Zeiler & Fergus 2014): the history is gone through again without each of its items,
    and what the probability of the recommended item loses is what the watched one gave. All of the
    shortened histories are gone through at once, as one batch.
    """
    distinct = np.unique(watched)
    log_p_BI = _without_each(model, watched, distinct, items)
    lost_BI = log_p_BI[-1] - log_p_BI[:-1]
    chosen = []
    for column, item in enumerate(items.tolist()):
        order = np.argsort(-lost_BI[:, column], kind="stable")[:k]
        chosen.append(
            [
                Reason(
                    int(distinct[row]),
                    float(lost_BI[row, column]),
                    None if counts is None else counts.both(int(distinct[row]), item),
                )
                for row in order
            ]
        )
    return chosen


def _without_each(
    model: NumpySessionModel,
    watched: NDArray[np.int32],
    distinct: NDArray[np.int32],
    items: NDArray[np.integer],
) -> Floats:
    """Log-probability of the items without each watched one, and at the end with all, [B, I].

    Over the same items in all cases: those that are not watched.
    """
    histories = [watched[watched != item] for item in distinct]
    logits_BN = model.batch_logits([*histories, watched])
    logits_BN[:, watched] = -np.inf
    log_p_BI: Floats = logits_BN[:, items] - log_sum_exp(logits_BN)
    return log_p_BI


def sentence(catalogue: Catalogue, item: int, reasons: Sequence[Reason]) -> str:
    """The reasons as a sentence."""
    title = catalogue.titles[item]
    speaking = [reason for reason in reasons if reason.weight > 0]
    if not speaking:
        return f"{title}: nothing watched speaks for it more than what is popular does."
    told = []
    for reason in speaking:
        both = f" ({reason.cooccurrence:,} people liked both)" if reason.cooccurrence else ""
        told.append(f"{catalogue.titles[reason.watched]}{both}")
    return f"{title}, because of {names(told)}."
