"""Checks on a ratings table, before anything is computed from it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from recsys import columns
from recsys.errors import DataError

REQUIRED = (columns.USER_ID, columns.ITEM_ID)


class DataWarning(UserWarning):
    """The data was usable, but not as it stood; the message says what was done."""


def validate_ratings(
    ratings: pd.DataFrame, source: str, name_row: Callable[[int], str] | None = None
) -> pd.DataFrame:
    """Check a ratings table and give it back with exact types, as a new table.

    Args:
        ratings: columns `user_id` and `item_id`, optionally `rating` and `timestamp`.
        source: the name of the file or object, for messages.
        name_row: what to call the row at a position, counted from zero, in messages.

    Returns:
        Ids as int64 or str, `rating` as float32, `timestamp` as int64 seconds; of several rows
        with the same user and item only the latest.

    Raises:
        DataError: a column is missing, there are no rows, or a value cannot be used.
    """
    missing = [name for name in REQUIRED if name not in ratings]
    if missing:
        raise DataError(
            f"{source}: no column {', '.join(map(repr, missing))} among "
            f"{', '.join(map(repr, map(str, ratings.columns)))}; name the columns "
            "user_id, item_id, rating, timestamp (or as MovieLens does)"
        )
    if not ratings.columns.is_unique:
        twice = ratings.columns[ratings.columns.duplicated()].unique()
        raise DataError(
            f"{source}: more than one column {', '.join(map(repr, twice))} "
            "(userId counts as user_id, and so on); drop the others"
        )
    if ratings.empty:
        raise DataError(f"{source}: there are no rows in it")
    where = _Where(name_row or (lambda position: f"{source}, row {position}"))
    checked = {name: _ids(ratings[name], name, where) for name in REQUIRED}
    if columns.RATING in ratings:
        checked[columns.RATING] = _ratings(ratings[columns.RATING], where)
    if columns.TIMESTAMP in ratings:
        checked[columns.TIMESTAMP] = _timestamps(ratings[columns.TIMESTAMP], where)
    return _keep_latest(pd.DataFrame(checked).reset_index(drop=True), source)


class _Where:
    """Says where a bad value stands."""

    def __init__(self, name_row: Callable[[int], str]) -> None:
        self.name_row = name_row

    def refuse(self, bad: pd.Series[bool], values: pd.Series[Any], name: str, rule: str) -> None:
        """Raise for the first bad value, if there is any."""
        if not bad.any():
            return
        position = int(np.argmax(bad.to_numpy()))
        (value,) = values.iloc[[position]].tolist()  # as Python writes it, not NumPy
        raise DataError(
            f"{self.name_row(position)}, column {name!r}: {value!r} {rule} "
            f"({int(bad.sum())} such rows); correct or remove them"
        )


def _ids(values: pd.Series[Any], name: str, where: _Where) -> pd.Series[Any]:
    where.refuse(values.isna(), values, name, "is not an id")
    if pd.api.types.is_float_dtype(values) and ((values % 1 == 0) & (values.abs() < 2**53)).all():
        values = values.astype(np.int64)  # integers that once had gaps among them
    if _fits_int64(values):
        return values.astype(np.int64)
    text = values.astype(str)
    # Text that is the plain writing of integers becomes integers; '007' or 'a7' stay text.
    numbers = pd.to_numeric(text, errors="coerce", downcast=None)
    if _fits_int64(numbers) and numbers.astype(str).eq(text).all():
        return numbers.astype(np.int64)
    return text.astype(object)


def _fits_int64(values: pd.Series[Any]) -> bool:
    largest = np.iinfo(np.int64).max
    return pd.api.types.is_integer_dtype(values) and bool(values.max() <= largest)


def _ratings(values: pd.Series[Any], where: _Where) -> pd.Series[Any]:
    numbers = pd.to_numeric(values, errors="coerce").astype(np.float32)
    where.refuse(~numbers.map(np.isfinite), values, columns.RATING, "is not a number")
    return numbers


def _timestamps(values: pd.Series[Any], where: _Where) -> pd.Series[Any]:
    if pd.api.types.is_datetime64_any_dtype(values):
        where.refuse(values.isna(), values, columns.TIMESTAMP, "is not a time")
        utc = values if values.dt.tz is None else values.dt.tz_convert("UTC").dt.tz_localize(None)
        return utc.astype("datetime64[s]").astype(np.int64)
    numbers = pd.to_numeric(values, errors="coerce")
    if not numbers.notna().any():
        return _written_times(values, where)
    whole = numbers.notna() & (numbers >= 0) & (numbers < 2**63) & (numbers % 1 == 0)
    where.refuse(~whole, values, columns.TIMESTAMP, "is not a whole number of seconds since 1970")
    seconds = numbers.astype(np.int64)
    return seconds // 1000 if seconds.median() > _LAST_SECOND else seconds


_LAST_SECOND = 100_000_000_000
"""Larger numbers are milliseconds: as seconds they would lie after the year 5000."""


def _written_times(values: pd.Series[Any], where: _Where) -> pd.Series[Any]:
    times = pd.to_datetime(values, errors="coerce", utc=True, format="ISO8601")
    rule = "is neither seconds since 1970 nor a time such as 2026-01-31T20:15:00Z"
    where.refuse(times.isna() | (times < _EPOCH), values, columns.TIMESTAMP, rule)
    return times.dt.tz_localize(None).astype("datetime64[s]").astype(np.int64)


_EPOCH = pd.Timestamp(0, tz="UTC")


def _keep_latest(ratings: pd.DataFrame, source: str) -> pd.DataFrame:
    """Keep the latest of several rows of one user and item; of equal times, the last row."""
    ordered = ratings
    if columns.TIMESTAMP in ratings:
        ordered = ratings.sort_values(columns.TIMESTAMP, kind="stable")
    repeated = ordered.duplicated(list(REQUIRED), keep="last")
    if not repeated.any():
        return ratings
    warnings.warn(
        f"{source}: {int(repeated.sum())} rows repeat a user and an item; "
        "only the latest of each was kept",
        DataWarning,
        stacklevel=4,
    )
    return ratings.loc[~repeated.sort_index()].reset_index(drop=True)
