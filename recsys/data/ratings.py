"""Ratings: how they are parsed, their scale, and values outside of it that mean something else."""

from __future__ import annotations

import math
import re
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.data.ids import MISSING_MARKERS, is_text
from recsys.data.options import ReadOptions

_Ratings = NDArray[np.float32]

_NUMBER: Final = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_DECIMAL_COMMA: Final = re.compile(r"[-+]?[0-9]+,[0-9]{1,2}")  # 1,000 may be a thousand
_BOOLEANS: Final = {"true": 1.0, "false": 0.0}
_MISSING: Final = {marker.lower() for marker in MISSING_MARKERS}

_TOPS: Final = (1, 5, 10, 100)
_LONGEST_GAP: Final = 0.8
"""The highest rating is that of the scale, unless it is above this share of the next of `_TOPS`."""

_NINES: Final = (9, 99, 999, 9999, 99999)


class Sentinel(NamedTuple):
    """A value that probably stands for something else than a rating."""

    value: float
    low: float
    """The lowest of the other ratings."""
    high: float

    @property
    def remedy(self) -> str:
        """The settings that say what it means."""
        is_rating = f"scale = [0, {self.high:g}]" if self.value == 0 else "sentinel_rating=keep"
        return (
            f"if it stands for a missing rating, set missing_ratings = [{self.value:g}]; if it is "
            f"a rating, set {is_rating}"
        )


def parse_ratings(column: pa.ChunkedArray | None, options: ReadOptions) -> _Ratings | None:
    """Convert ratings, [n], to float32; NaN if one is missing, infinite if it is no number."""
    if column is None:
        return None
    if is_text(column.type) or pa.types.is_dictionary(column.type):
        rating = _parse_text(column.cast(pa.string()))
    else:
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int8())
        rating = column.cast(pa.float32(), safe=False).fill_null(np.nan).to_numpy()
    for value in options.missing_ratings:
        rating = np.where(rating == np.float32(value), np.float32(np.nan), rating)
    return rating


def _parse_text(column: pa.ChunkedArray) -> _Ratings:
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    text = [value.strip() for value in encoded.dictionary.to_pylist()]
    is_boolean = np.array([value.lower() in _BOOLEANS for value in text], dtype=np.bool_)
    numbers = np.array([_parse_number(value) for value in text])
    if any(map(_DECIMAL_COMMA.fullmatch, text)):
        # Next to decimal commas, 1.000 may be a thousand.
        is_unclear = [re.fullmatch(r".*\.[0-9]{3}", value) is not None for value in text]
        numbers[is_unclear] = np.inf
    if is_boolean.any():
        counts = np.bincount(encoded.indices.drop_null().to_numpy(), minlength=len(text))
        booleans = np.array([_BOOLEANS.get(value.lower(), np.inf) for value in text])
        if 2 * counts[is_boolean].sum() > counts[is_boolean | np.isfinite(numbers)].sum():
            numbers = np.where(np.isnan(numbers), numbers, booleans)
    indices = encoded.indices.fill_null(len(text)).to_numpy()
    with np.errstate(over="ignore"):
        rating: _Ratings = np.append(numbers, np.nan).astype(np.float32)[indices]
    return rating


def _parse_number(text: str) -> float:
    if text.lower() in _MISSING:
        return math.nan
    if _DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    return float(text) if _NUMBER.fullmatch(text) else math.inf


def find_sentinel(rating: _Ratings) -> Sentinel | None:
    """Find a value outside of all other ratings that is usual for a missing one, if there is any.

    It is a negative whole number where the others are not negative and reach above 1; zero where
    the others are at least three whole numbers from 1 to at most 10; or 9, 99 and so on, also
    negative, where the others are at most half as large.
    """
    rating = rating[np.isfinite(rating)]
    if not len(rating):
        return None
    low, high = float(rating.min()), float(rating.max())
    for value, is_usual in (
        (low, low < 0 and low.is_integer()),
        (low, low == 0),
        (high, high in _NINES),
    ):
        others = rating[rating != value] if is_usual else rating[:0]
        if not len(others):
            continue
        found = Sentinel(value, float(others.min()), float(others.max()))
        if _is_outside(found, others, n=len(rating) - len(others)):
            return found
    return None


def _is_outside(found: Sentinel, others: _Ratings, n: int) -> bool:
    value, low, high = found
    if value < 0:
        is_far = -value in _NINES and 2 * max(high, -low) <= -value
        return high > 1 and (low >= 0 or is_far)
    if value == 0:
        is_scale = low >= 1 and high <= 10 and not bool((others % 1).any())
        return is_scale and len(np.unique(others.astype(np.int8))) >= 3
    # Counts may reach 9 by chance, but then rarely do so twice.
    return 0 <= low < high <= value / 2 and (value > 9 or n > 1)


def settle_scale(
    rating: _Ratings | None,
    declared: tuple[float, float] | None,
    of_layout: tuple[float, float] | None,
) -> tuple[float, float] | None:
    """The scale that ratings must keep to: the declared one, or that of the layout if it fits.

    The layout does not fit if a quarter of the ratings are above its scale, but at most 10.
    """
    if declared is not None or rating is None or of_layout is None:
        return declared
    n_above = np.count_nonzero((rating > of_layout[1]) & (rating <= 10))
    return None if 4 * n_above >= np.count_nonzero(np.isfinite(rating)) > 0 else of_layout


def find_scale(rating: _Ratings | None) -> tuple[float, float] | None:
    """The lowest rating, and the highest that the scale has: 5 where the highest given is 4.5.

    None if there are no ratings, or if they reach above 100, as counts of plays do.
    """
    if rating is None or not len(rating) or (high := float(rating.max())) > _TOPS[-1]:
        return None
    tops = (float(top) for top in _TOPS if _LONGEST_GAP * top < high <= top)
    return float(rating.min()), next(tops, high)
