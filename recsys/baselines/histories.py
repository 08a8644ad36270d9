"""Histories as a matrix, for models that add up what each watched item says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from recsys.config import Config
from recsys.data.interactions import lengths_to_offsets


class Recency(Config):
    """How much of a history speaks, and how loudly."""

    last: int | None = Field(default=None, ge=1)
    """How many of the latest watches speak; None lets all."""

    decay: float = Field(default=1.0, gt=0, le=1)
    """What the weight of a watch is multiplied by for each later one."""


FULL_HISTORY = Recency()
"""Every watch, whenever it was."""


def history_matrix(
    histories: Sequence[NDArray[np.int32]], n_items: int, recency: Recency = FULL_HISTORY
) -> sp.csr_array:
    """The weight of each item in each history, else zero: float32, [B, n_items].

    The latest watch weighs one, the one before it `recency.decay`, and so on. An item watched
    several times weighs what its latest watch does.

    Example:
        >>> history = np.array([2, 0, 1])
        >>> history_matrix([history], 4, Recency(last=2, decay=0.5)).toarray().tolist()
        [[0.5, 1.0, 0.0, 0.0]]
    """
    recent = [history[-(recency.last or 0) :] for history in histories]
    lengths = np.array([len(history) for history in recent], dtype=np.int64)
    offsets = lengths_to_offsets(lengths)
    items = np.concatenate([*recent, np.empty(0, np.int32)])
    rows = np.repeat(np.arange(len(recent)), lengths)
    age = offsets[1:][rows] - 1 - np.arange(len(items))
    # Latest first, of which unique keeps the first.
    newest_first = np.argsort(age, kind="stable")
    keys = (rows * n_items + items)[newest_first]
    keys, first = np.unique(keys, return_index=True)
    weights = np.power(recency.decay, age[newest_first][first]).astype(np.float32)
    return sp.csr_array(
        (weights, (keys // n_items, keys % n_items)), shape=(len(histories), n_items)
    )
