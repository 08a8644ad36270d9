"""What callers may pass, checked: each mistake has an error that names the argument."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from recsys.errors import QueryError


def count_of(name: str, value: object, what: str = "item") -> int:
    """A whole number from one up.

    Raises:
        QueryError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise QueryError(f"{name} is {value!r}: it has to be a whole number")
    if value < 1:
        raise QueryError(f"{name} is {value}: ask for at least one {what}")
    return int(value)


def share_of(name: str, value: object) -> float:
    """A number from zero to one.

    Raises:
        QueryError: it is none.
    """
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not is_number or not 0.0 <= float(value) <= 1.0 or math.isnan(float(value)):  # type: ignore[arg-type]
        raise QueryError(f"{name} is {value!r}: it has to be a number from 0 to 1")
    return float(value)  # type: ignore[arg-type]


def items_of(name: str, value: object) -> list[Any]:
    """Several items, in order.

    Raises:
        QueryError: it is a single one, or none.
    """
    if isinstance(value, pd.DataFrame):
        raise QueryError(f"{name} is a DataFrame: pass one column of it, such as its item_id")
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise QueryError(
            f"{name} is {value!r}: it has to be a list of ids or titles, even if of one"
        )
    if isinstance(value, np.ndarray):
        return value.ravel().tolist()
    return value if isinstance(value, list) else list(value)
