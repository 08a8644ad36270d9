"""How good a model is for some users and some items: by segment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.data import Interactions, Split, Subset
from recsys.evaluation.metrics import mean_metrics

Segments = Mapping[str, pd.Categorical]
"""The segment of each target, by what they are divided by."""


def segments_of(split: Split, subset: Subset) -> dict[str, pd.Categorical]:
    """Divide targets by length of history, by popularity of the item, and into warm and cold.

    Histories are divided into four parts of equally many targets, as far as equal lengths allow.
    Items are divided by popularity in train into deciles of its watches: 1 holds the most
    watched items, which make up a tenth of all watches, 10 the least watched. Items that train
    does not know are cold.
    """
    histories = split.histories(subset)
    lengths = np.array([len(histories[at]) for at in range(len(histories))], dtype=np.int64)
    items = split.targets(subset)
    cold = split.cold(subset)
    start = np.where(cold.items, 2, np.where(cold.users, 1, 0))
    deciles = popularity_deciles(split.train)[items]
    deciles[cold.items] = -1
    return {
        "history length": _quarters(lengths),
        "popularity decile": _coded(deciles, [str(decile) for decile in range(1, 11)]),
        "start": _coded(start, ["warm", "cold user", "cold item"]),
    }


def popularity_deciles(train: Interactions) -> NDArray[np.int64]:
    """The decile of watches that each item falls into, 0 the most watched to 9, [n_items]."""
    counts = np.bincount(train.item_index, minlength=train.n_items)
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    deciles = np.empty(train.n_items, dtype=np.int64)
    deciles[order] = np.minimum(10 * before // max(counts.sum(), 1), 9)
    return deciles


def by_segment(
    ranks: NDArray[np.int64], segments: Segments, ks: Sequence[int] = (10,)
) -> pd.DataFrame:
    """Means of every metric for each segment: one row per division and segment, with its size.

    Args:
        ranks: of the targets, [n].
        segments: as `segments_of` divides the same targets.
        ks: lengths of list.
    """
    rows = [
        {"by": by, "segment": str(segment), "targets": int(here.sum())}
        | mean_metrics(ranks[here], ks)
        for by, of in segments.items()
        for code, segment in enumerate(of.categories)
        if (here := of.codes == code).any()
    ]
    return pd.DataFrame(rows).set_index(["by", "segment"])


def _quarters(lengths: NDArray[np.int64]) -> pd.Categorical:
    """Four parts of about equally many, named by their bounds."""
    edges = np.unique(np.quantile(lengths, [0.25, 0.5, 0.75, 1.0], method="inverted_cdf"))
    codes = np.searchsorted(edges, lengths)
    lows = [lengths[codes == code].min() for code in range(len(edges))]
    return _coded(codes, [f"{low} to {high}" for low, high in zip(lows, edges, strict=True)])


def _coded(codes: NDArray[Any], names: list[str]) -> pd.Categorical:
    """What is called names[code], or nothing where the code is −1."""
    values = [names[code] if code >= 0 else None for code in codes]
    return pd.Categorical(values, categories=names)
