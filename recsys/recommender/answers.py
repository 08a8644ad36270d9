"""Answers: tidy tables that cost nothing until they are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd


class Recommendations(pd.DataFrame):
    """An answer, best first: a DataFrame, and plain records by `as_records()`.

    pandas takes a fraction of a millisecond to make even a table of ten rows, more than the answer
    itself takes. So it is made when it is first looked at, and never by a program that asks for
    records only. What is made from it (`answer.head(3)`) is a plain DataFrame.

    Example:
        >>> answer = Recommendations({"rank": np.array([1]), "title": np.array(["Heat (1995)"])})
        >>> answer.as_records()
        [{'rank': 1, 'title': 'Heat (1995)'}]
        >>> answer["title"].tolist(), len(answer)
        (['Heat (1995)'], 1)
    """

    def __init__(self, columns: Mapping[str, Any]) -> None:
        # pandas' own __init__ is put off: see __getattr__.
        object.__setattr__(self, "_unmade", columns)

    def __getattr__(self, name: str) -> Any:  # type: ignore[misc]
        """Whatever pandas looks for before the frame is made is missing: then it is made."""
        unmade = self.__dict__.pop("_unmade", None)
        if unmade is None:
            return super().__getattr__(name)
        super().__init__(dict(unmade))  # type: ignore[call-arg]
        return getattr(self, name)

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def as_records(self) -> list[dict[str, Any]]:
        """One dictionary per row, of plain Python values, for JSON; a missing value is None."""
        unmade = self.__dict__.get("_unmade")
        if unmade is None:  # someone has looked at it, and may have changed it
            unmade = {str(name): self[name].to_numpy() for name in self}
        values = zip(*map(_plain, unmade.values()), strict=True)
        return [dict(zip(unmade, row, strict=True)) for row in values]


def _plain(column: Any) -> list[Any]:
    """The values of a column, None where one is missing."""
    values: list[Any] = column.tolist()
    if isinstance(column, np.ndarray) and column.dtype.kind in "iub":
        return values
    return [None if value is pd.NA or value != value else value for value in values]
