"""What was chosen, as the tables that are given back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys import columns
from recsys.recommender.answers import Recommendations
from recsys.recommender.catalogue import Catalogue
from recsys.recommender.explaining import Reason, sentence
from recsys.recommender.ranking import Floats, Indices
from recsys.recommender.scoring import Ranked
from recsys.recommender.sequences import ItemSequence


def _named(catalogue: Catalogue, index: NDArray[np.integer]) -> dict[str, NDArray[Any]]:
    return {
        columns.RANK: np.arange(1, len(index) + 1),
        columns.ITEM_ID: catalogue.ids[index],
        columns.TITLE: catalogue.titles[index],
    }


def ranking(catalogue: Catalogue, ranked: Ranked) -> Recommendations:
    """Items with score and probability."""
    return Recommendations(
        _named(catalogue, ranked.index)
        | {columns.SCORE: ranked.score, columns.PROBABILITY: ranked.probability}
    )


def similar(catalogue: Catalogue, found: tuple[Indices, Floats]) -> Recommendations:
    """Items with their cosine."""
    index, cosine = found
    return Recommendations(_named(catalogue, index) | {columns.SCORE: cosine})


def with_attributes(catalogue: Catalogue, index: Indices, score: Floats) -> Recommendations:
    """Items with their score and whatever else the catalogue knows of them."""
    known = catalogue.table.iloc[index]
    others = [name for name in known if name not in (columns.ITEM_ID, columns.TITLE)]
    return Recommendations(
        _named(catalogue, index)
        | {columns.SCORE: score}
        | {str(name): known[name].to_numpy() for name in others}
    )


def sequences(catalogue: Catalogue, lists: Sequence[ItemSequence]) -> Recommendations:
    """A row for each item of each list."""
    lengths = [len(found.items) for found in lists]
    items = np.fromiter(chain.from_iterable(found.items for found in lists), np.int64)
    steps = np.fromiter(chain.from_iterable(found.steps for found in lists), np.float64)
    whole = np.array([found.log_probability for found in lists], dtype=np.float64)
    return Recommendations(
        {"sequence": np.repeat(np.arange(1, len(lists) + 1), lengths)}
        | _named(catalogue, items)
        | {
            columns.RANK: _ranks(lengths),
            columns.SCORE: np.exp(steps),
            columns.PROBABILITY: np.exp(np.repeat(whole, lengths)),
        }
    )


def explanations(
    catalogue: Catalogue, items: NDArray[np.integer], reasons: Sequence[Sequence[Reason]]
) -> Recommendations:
    """A row for each reason for each item."""
    lengths = [len(each) for each in reasons]
    flat = list(chain.from_iterable(reasons))
    explained, because = np.repeat(items, lengths), np.array([r.watched for r in flat], np.int64)
    told = [sentence(catalogue, int(i), r) for i, r in zip(items, reasons, strict=True)]
    return Recommendations(
        {
            columns.ITEM_ID: catalogue.ids[explained],
            columns.TITLE: catalogue.titles[explained],
            columns.RANK: _ranks(lengths),
            "because_item_id": catalogue.ids[because],
            "because_title": catalogue.titles[because],
            columns.SCORE: np.array([reason.weight for reason in flat]),
            "cooccurrence": _counts([reason.cooccurrence for reason in flat]),
            "sentence": np.repeat(np.array(told, dtype=object), lengths),
        }
    )


def _counts(values: Sequence[int | None]) -> Any:
    """Whole numbers of which some are missing."""
    return pd.array(values, dtype="Int64")


def _ranks(lengths: Sequence[int]) -> NDArray[np.int64]:
    """One, two, three … for each of several lists, one after the other."""
    return np.fromiter(chain.from_iterable(range(1, n + 1) for n in lengths), np.int64)
