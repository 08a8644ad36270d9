"""Results of the recommendation API as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


class Recommendations(pd.DataFrame):
    """A result table, best first: a DataFrame that also converts to records.

    Operations on it (`result.head(3)`) return plain DataFrames.

    Example:
        >>> result = Recommendations({"rank": np.array([1]), "title": np.array(["Heat (1995)"])})
        >>> result.as_records()
        [{'rank': 1, 'title': 'Heat (1995)'}]
        >>> result["title"].tolist(), len(result)
        (['Heat (1995)'], 1)
    """

    def __init__(self, columns: Mapping[str, Any]) -> None:
        super().__init__(dict(columns))  # type: ignore[call-arg]

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def as_records(self) -> list[dict[str, Any]]:
        """One dictionary of plain Python values per row, for JSON. Missing values are None."""
        return _to_records([str(name) for name in self], self.to_numpy(dtype=object).tolist())


def _to_records(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    values = ([None if v is pd.NA or v != v else v for v in row] for row in rows)
    return [dict(zip(names, row, strict=True)) for row in values]


def ranking_table(
    catalogue: Catalogue, ranked: RankedItems, keys: Mapping[str, NDArray[Any]] | None = None
) -> Recommendations:
    """Rankings, one after another. Each column of `keys` has one value for each ranking."""
    repeated = {name: values[ranked.row] for name, values in (keys or {}).items()}
    return Recommendations(repeated | _ranking_columns(catalogue, ranked))


def ranking_records(catalogue: Catalogue, ranked: RankedItems) -> list[dict[str, Any]]:
    """`ranking_table(...).as_records()` without creating a frame, which takes longer."""
    named = _ranking_columns(catalogue, ranked)
    rows = zip(*(column.tolist() for column in named.values()), strict=True)
    return _to_records(list(named), rows)


def _ranking_columns(catalogue: Catalogue, ranked: RankedItems) -> dict[str, NDArray[Any]]:
    return _item_columns(catalogue, ranked.item, ranked.row) | {
        columns.SCORE: ranked.score,
        columns.PROBABILITY: ranked.probability,
    }


def score_table(
    catalogue: Catalogue, index: Indices, score: Floats, *, attributes: bool = False
) -> Recommendations:
    """Items with their score and, if requested, the other columns of the catalogue."""
    scored = _item_columns(catalogue, index, np.zeros_like(index)) | {columns.SCORE: score}
    if attributes:
        table = catalogue.table.iloc[index].drop(columns=[columns.ITEM_ID, columns.TITLE])
        scored |= {str(name): table[name].to_numpy() for name in table if name not in scored}
    return Recommendations(scored)


def sequences_table(catalogue: Catalogue, sequences: Sequence[ItemSequence]) -> Recommendations:
    """One row per item of each sequence."""
    lengths = [len(sequence.items) for sequence in sequences]
    number = np.repeat(np.arange(1, len(sequences) + 1), lengths)
    items = np.fromiter(chain.from_iterable(s.items for s in sequences), np.int64)
    log_p = np.fromiter(chain.from_iterable(s.log_probabilities for s in sequences), np.float64)
    total = np.array([sequence.log_probability for sequence in sequences], dtype=np.float64)
    return Recommendations(
        {"sequence": number}
        | _item_columns(catalogue, items, number)
        | {columns.SCORE: np.exp(log_p), columns.PROBABILITY: np.exp(np.repeat(total, lengths))}
    )


def _item_columns(
    catalogue: Catalogue, index: Indices, group: NDArray[np.integer]
) -> dict[str, NDArray[Any]]:
    """Id and title of items, and the rank within each group of consecutive rows."""
    return {
        columns.RANK: np.arange(1, len(index) + 1) - np.searchsorted(group, group),
        columns.ITEM_ID: catalogue.ids[index],
        columns.TITLE: catalogue.titles[index],
    }
