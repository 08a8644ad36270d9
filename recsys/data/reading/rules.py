"""The rules that each row of ratings must meet by itself, as a pandera schema."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
from numpy.typing import NDArray

from recsys import columns as names
from recsys.data.reading.catalogue import Catalogue
from recsys.data.reading.checks import Checks
from recsys.data.reading.encode import UNREADABLE, CodedRatings
from recsys.data.reading.ids import NO_ID, Coded
from recsys.data.reading.layouts import Declared
from recsys.data.timestamps import to_unix

_Holds = Callable[["pd.Series[Any]"], "pd.Series[bool]"]


@dataclass(frozen=True)
class Rule:
    """What every value of a column must meet."""

    check: str
    """The field of `Checks` that says what to do where it does not hold."""
    column: str
    holds: _Holds
    otherwise: str
    """What to say of a value for which it does not hold."""


def rules_for(
    rows: CodedRatings, checks: Checks, declared: Declared, catalogue: Catalogue | None
) -> list[Rule]:
    """The rules for some ratings; of those that a row breaks, the first is told.

    Args:
        rows: the ratings.
        checks: the settings.
        declared: what their layout promises.
        catalogue: what is known of the items; None where there is none.
    """
    rules = [*_id_rules(names.USER_ID, rows.user, declared)]
    rules += _id_rules(names.ITEM_ID, rows.item, declared)
    if catalogue is not None:
        known = _among(catalogue.knows(rows.item.distinct))
        rules.append(Rule("unknown_item", names.ITEM_ID, known, "is not in the catalogue"))
    if rows.rating is not None:
        rules += _rating_rules(checks.scale or declared.scale)
    if rows.timestamp is not None:
        rules += _time_rules(math.ceil(time.time()) if checks.now is None else checks.now)
    return rules


def _id_rules(column: str, ids: Coded, declared: Declared) -> list[Rule]:
    rules = [Rule("missing_id", column, _among(ids.is_id), "is not an id")]
    # A promise that most ids break was not made for them: somebody uses MovieLens' names for ids of
    # his own.
    if declared.integer_ids and 2 * ids.is_integer.sum() > len(ids.is_integer):
        told = "is not a whole number, as ids here are"
        rules.append(Rule("id_type", column, _among(ids.is_integer), told))
    return rules


def _among(marks: NDArray[np.bool_]) -> _Holds:
    """The rule for codes that follows from one for distinct ids."""
    if marks.all():
        return lambda codes: codes != NO_ID
    with_none = np.append(marks, False)  # NO_ID is -1, and so the last
    return lambda codes: pd.Series(with_none[codes.to_numpy()], index=codes.index)


def _rating_rules(scale: tuple[float, float] | None) -> list[Rule]:
    rules = [Rule("bad_rating", names.RATING, np.isfinite, "is not a number")]
    if scale is not None:
        low, high = scale
        told = f"is not a rating from {low:g} to {high:g}"
        rules.append(Rule("rating_scale", names.RATING, lambda x: (x >= low) & (x <= high), told))
    return rules


def _time_rules(now: Any) -> list[Rule]:
    last = to_unix(now)
    unreadable = (
        "is neither a whole number of seconds since 1970 nor a time such as 2026-01-31T20:15:00Z"
    )
    return [
        Rule("bad_timestamp", names.TIMESTAMP, lambda x: x != UNREADABLE, unreadable),
        Rule("negative_time", names.TIMESTAMP, lambda x: x >= 0, "is before 1970"),
        Rule("future_time", names.TIMESTAMP, lambda x: x <= last, "lies in the future"),
    ]


def broken_rules(rows: CodedRatings, rules: list[Rule]) -> list[NDArray[np.int64]]:
    """For each rule, the positions of the rows that break it and none before it, ascending."""
    frame = pd.DataFrame(
        {
            names.USER_ID: rows.user.codes,
            names.ITEM_ID: rows.item.codes,
            **({} if rows.rating is None else {names.RATING: rows.rating}),
            **({} if rows.timestamp is None else {names.TIMESTAMP: rows.timestamp}),
        },
        copy=False,
    )
    try:
        _schema(rules).validate(frame, lazy=True, inplace=True)
    except pa.errors.SchemaErrors as errors:
        return _first_broken(errors.failure_cases, rules)
    return [np.empty(0, dtype=np.int64)] * len(rules)


def _schema(rules: list[Rule]) -> pa.DataFrameSchema:
    # ignore_na=False: pandera would otherwise copy each column to look for what is missing.
    columns = {
        column: pa.Column(
            checks=[
                pa.Check(rule.holds, name=rule.check, ignore_na=False)
                for rule in rules
                if rule.column == column
            ],
            nullable=True,  # the rules tell of what is missing
        )
        for column in dict.fromkeys(rule.column for rule in rules)
    }
    return pa.DataFrameSchema(columns)


def _first_broken(failures: pd.DataFrame, rules: list[Rule]) -> list[NDArray[np.int64]]:
    number = {(rule.column, rule.check): place for place, rule in enumerate(rules)}
    keys = zip(failures["column"], failures["check"], strict=True)
    first = (
        pd.DataFrame(
            {
                "position": failures["index"].to_numpy(np.int64),
                "rule": [number[key] for key in keys],
            }
        )
        .groupby("position")["rule"]
        .min()
    )
    positions = first.index.to_numpy()
    return [positions[(first == place).to_numpy()] for place in range(len(rules))]
