"""Ratings: how they are parsed, their scale, and values outside of it that mean something else."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Sequence
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.data.ids import MISSING_MARKERS, is_text
from recsys.data.options import ReadOptions

_Ratings = NDArray[np.float32]

_NUMBER: Final = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_DECIMAL_COMMA: Final = re.compile(r"[-+]?[0-9]+,[0-9]{1,2}")  # 1,000 may be a thousand
_THOUSANDS: Final = re.compile(r".*\.[0-9]{3}")  # so may be 1.000, next to decimal commas
_BOOLEANS: Final = {"true": 1.0, "false": 0.0}
_MISSING: Final = {marker.lower() for marker in MISSING_MARKERS}
_PUNCTUATION: Final = re.compile("[-\u2013\u2014?.]+")
"""Dashes, question marks and periods alone stand for a missing rating."""

_TOPS: Final = (1, 5, 10, 100)
_LONGEST_GAP: Final = 0.8
"""The highest rating is that of the scale, unless it is above this share of the next of `_TOPS`."""

_NINES: Final = (9, 99, 999, 9999, 99999)
_USUAL: Final = {-1, -2, *(-value for value in _NINES)}


class Sentinel(NamedTuple):
    """Values that probably stand for something else than a rating."""

    numbers: list[float]
    low: float
    """The lowest of the other ratings."""
    high: float

    @property
    def remedy(self) -> str:
        """The settings that say what it means."""
        is_rating = f"scale = [0, {self.high:g}]" if self.numbers == [0] else "sentinel_rating=keep"
        values = ", ".join(f"{value:g}" for value in self.numbers)
        return (
            f"if it stands for a missing rating, set missing_ratings = [{values}]; if it is a "
            f"rating, set {is_rating}"
        )


def parse_ratings(column: pa.ChunkedArray | None, options: ReadOptions) -> _Ratings | None:
    """Convert ratings, [n], to float32; NaN if one is missing, infinite if it is no number."""
    if column is None:
        return None
    if is_text(column.type) or pa.types.is_dictionary(column.type):
        encoded = column.cast(pa.string()).dictionary_encode().combine_chunks()
        missing = {value.lower() for value in options.missing_ratings if isinstance(value, str)}
        numbers = [*_parse_text(encoded.dictionary.to_pylist(), _MISSING | missing), math.nan]
        with np.errstate(over="ignore"):
            values = np.array(numbers).astype(np.float32)
        rating: _Ratings = values[encoded.indices.fill_null(len(numbers) - 1).to_numpy()]
    else:
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int8())
        rating = column.cast(pa.float32(), safe=False).fill_null(np.nan).to_numpy()
    for value in (value for value in options.missing_ratings if not isinstance(value, str)):
        rating = np.where(rating == np.float32(value), np.float32(np.nan), rating)
    return rating


def _parse_text(values: Sequence[str], missing: Container[str]) -> list[float]:
    """Parse distinct ratings. True and false are 1 and 0 where no rating is a number."""
    texts = [value.strip() for value in values]
    has_commas = any(map(_DECIMAL_COMMA.fullmatch, texts))
    has_numbers = has_commas or any(map(_NUMBER.fullmatch, texts))

    def parse(text: str) -> float:
        if text.lower() in missing or _PUNCTUATION.fullmatch(text):
            return math.nan
        if has_commas and _THOUSANDS.fullmatch(text):
            return math.inf
        number = text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else text
        if _NUMBER.fullmatch(number):
            return float(number)
        return math.inf if has_numbers else _BOOLEANS.get(text.lower(), math.inf)

    return [parse(text) for text in texts]


def find_sentinel(rating: _Ratings) -> Sentinel | None:
    """Find values outside of all other ratings that are usual for a missing one, if there are any.

    It is a negative whole number, or a pair such as -1 and -2, where the others are not negative
    and reach above 1 (but no scale from -2 to 2); zero where the others are several whole numbers
    from 1, the highest 3 to 10; or 9, 99 and so on, also negative, where the others are at most
    half as large.
    """
    rating = rating[np.isfinite(rating)]
    low, high = float(rating.min(initial=np.inf)), float(rating.max(initial=-np.inf))
    negative = np.unique(rating[rating < 0]).tolist()
    is_pair = len(negative) == 2 and low != -high and _USUAL.issuperset(negative)
    candidates = [negative] if is_pair else []
    for values in [*candidates, [low], [high]]:
        if all(value in _NINES or (value <= 0 and value.is_integer()) for value in values):
            others = rating[~np.isin(rating, values)]
            if len(others) and _is_outside(values[0], others, len(rating) - len(others)):
                return Sentinel(values, float(others.min()), float(others.max()))
    return None


def _is_outside(value: float, others: _Ratings, n: int) -> bool:
    """Whether a value that occurs n times is not one of a scale or count as the others are."""
    low, high = float(others.min()), float(others.max())
    if value < 0:
        is_far = -value in _NINES and 2 * max(high, -low) <= -value
        return high > 1 and (low >= 0 or is_far)
    if value == 0:
        is_scale = low >= 1 and 3 <= high <= 10 and not bool((others % 1).any())
        return is_scale and len(np.unique(others)) >= 2
    # Counts may reach 9 by chance, but then rarely do so twice.
    is_far = max(high, -low) <= value / 2
    return is_far and (value > 9 or (0 <= low < high and n > 1))


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
