"""Results of the recommendation API as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys import columns
from recsys.recommender.catalogue import Catalogue, Floats, Indices
from recsys.recommender.scoring import RankedItems

if TYPE_CHECKING:
    from recsys.sessions import ItemSequence

SEQUENCE = "sequence"


class Recommendations(pd.DataFrame):
    """A result table, best first: a DataFrame that also converts to records.

    Creating a DataFrame of ten rows takes longer than computing the recommendations. The frame is
    therefore created on first access, and never if only `as_records()` is called. Operations on it
    (`result.head(3)`) return plain DataFrames.

    Example:
        >>> result = Recommendations({"rank": np.array([1]), "title": np.array(["Heat (1995)"])})
        >>> result.as_records()
        [{'rank': 1, 'title': 'Heat (1995)'}]
        >>> result["title"].tolist(), len(result)
        (['Heat (1995)'], 1)
    """

    def __init__(self, columns: Mapping[str, Any]) -> None:
        # pandas' own __init__ runs in __getattr__, on first access.
        object.__setattr__(self, "_pending", columns)

    def __getattr__(self, name: str) -> Any:  # type: ignore[misc]
        """Create the frame: until then every attribute that pandas looks up is missing."""
        pending = self.__dict__.pop("_pending", None)
        if pending is None:
            return super().__getattr__(name)
        super().__init__(dict(pending))  # type: ignore[call-arg]
        return getattr(self, name)

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def as_records(self) -> list[dict[str, Any]]:
        """One dictionary of plain Python values per row, for JSON. Missing values are None."""
        values = self.__dict__.get("_pending")
        if values is None:  # the frame exists and may have been modified
            values = {str(name): self[name].to_numpy() for name in self}
        rows = zip(*map(_to_python, values.values()), strict=True)
        return [dict(zip(values, row, strict=True)) for row in rows]


def _to_python(column: Any) -> list[Any]:
    values: list[Any] = column.tolist()
    if isinstance(column, np.ndarray) and column.dtype.kind in "iub":
        return values
    return [None if value is pd.NA or value != value else value for value in values]


def ranking_table(catalogue: Catalogue, ranked: RankedItems) -> Recommendations:
    """One ranking with scores and probabilities."""
    return Recommendations(
        _item_columns(catalogue, ranked.index)
        | {columns.SCORE: ranked.score, columns.PROBABILITY: ranked.probability}
    )


def batch_table(
    catalogue: Catalogue, ranked: RankedItems, key: str, keys: NDArray[Any]
) -> Recommendations:
    """Several rankings, one after another. Column `key` holds `keys[row]`."""
    start = np.searchsorted(ranked.row, ranked.row)
    ranks = {columns.RANK: np.arange(1, len(ranked.row) + 1) - start}
    return Recommendations(
        {key: keys[ranked.row]}
        | _item_columns(catalogue, ranked.index)
        | ranks
        | {columns.SCORE: ranked.score, columns.PROBABILITY: ranked.probability}
    )


def similar_table(catalogue: Catalogue, index: Indices, cosine: Floats) -> Recommendations:
    """Items with their cosine similarity."""
    return Recommendations(_item_columns(catalogue, index) | {columns.SCORE: cosine})


def search_table(catalogue: Catalogue, index: Indices, score: Floats) -> Recommendations:
    """Items with their score and all columns of the catalogue."""
    table = catalogue.table.iloc[index]
    attributes = {
        str(name): table[name].to_numpy()
        for name in table
        if name not in (columns.ITEM_ID, columns.TITLE)
    }
    return Recommendations(_item_columns(catalogue, index) | {columns.SCORE: score} | attributes)


def sequences_table(catalogue: Catalogue, sequences: Sequence[ItemSequence]) -> Recommendations:
    """One row per item of each sequence."""
    lengths = [len(sequence.items) for sequence in sequences]
    items = np.fromiter(chain.from_iterable(s.items for s in sequences), np.int64)
    log_p = np.fromiter(chain.from_iterable(s.log_probabilities for s in sequences), np.float64)
    total = np.array([sequence.log_probability for sequence in sequences], dtype=np.float64)
    return Recommendations(
        {SEQUENCE: np.repeat(np.arange(1, len(sequences) + 1), lengths)}
        | _item_columns(catalogue, items)
        | {
            columns.RANK: _ranks(lengths),
            columns.SCORE: np.exp(log_p),
            columns.PROBABILITY: np.exp(np.repeat(total, lengths)),
        }
    )


def _item_columns(catalogue: Catalogue, index: NDArray[np.integer]) -> dict[str, NDArray[Any]]:
    return {
        columns.RANK: np.arange(1, len(index) + 1),
        columns.ITEM_ID: catalogue.ids[index],
        columns.TITLE: catalogue.titles[index],
    }


def _ranks(lengths: Sequence[int]) -> NDArray[np.int64]:
    return np.fromiter(chain.from_iterable(range(1, n + 1) for n in lengths), np.int64)
