"""Answers: tidy tables that cost nothing until they are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


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

    def __init__(self, columns: Mapping[str, NDArray[Any]]) -> None:
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

    def unmade(self) -> Mapping[str, NDArray[Any]]:
        """The columns of a frame that nobody has looked at yet."""
        columns: Mapping[str, NDArray[Any]] = self.__dict__["_unmade"]
        return columns

    def as_records(self) -> list[dict[str, Any]]:
        """One dictionary per row, of plain Python values, for JSON; a missing value is None."""
        unmade = self.__dict__.get("_unmade")
        if unmade is None:
            frame = self.astype(object).where(self.notna(), None)
            return [{str(key): _plain(value) for key, value in row.items()}
                    for row in frame.to_dict("records")]  # fmt: skip
        names = list(unmade)
        values = zip(*(column.tolist() for column in unmade.values()), strict=True)
        return [dict(zip(names, row, strict=True)) for row in values]


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
