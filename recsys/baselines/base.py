"""The interface of baselines, their tuning, and the histories that they score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from recsys.config import Config, Runtime
from recsys.data import Interactions
from recsys.data.interactions import lengths_to_offsets


class Baseline(Protocol):
    """A model that scores every item as the next one."""

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Scores of all items, higher is better, in a new array, [B, n_items]."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class DotProduct(ABC):
    """A baseline whose scores are dot products of user vectors and item vectors.

    Evaluation ranks `item_vectors` and `user_vectors` without materialising all scores.
    """

    item_vectors: NDArray[np.float32]  # [n_items, dim]

    @abstractmethod
    def user_vectors(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """One vector per history, [B, dim]."""

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Dot products of each user vector with all item vectors, [B, n_items]."""
        return self.user_vectors(histories) @ self.item_vectors.T


@dataclass(frozen=True, eq=False)
class FitInputs:
    """Everything that a baseline can be fitted to."""

    train: Interactions
    runtime: Runtime = field(default_factory=Runtime)
    item_vectors: NDArray[np.float32] | None = field(default=None, repr=False)
    """Pretrained vectors of all items, [n_items, dim]."""


@dataclass(frozen=True)
class BaselineSpec:
    """How to fit a baseline, and the configurations to search."""

    fit: Callable[[FitInputs, Any], Baseline]
    configs: tuple[Config, ...] = (Config(),)
    """The default comes first; the others are tried if there is a validation metric."""


@dataclass(frozen=True, eq=False)
class TunedBaseline:
    """A fitted baseline and the search of its configuration."""

    model: Baseline
    config: Config
    trials: tuple[tuple[Config, float], ...]
    """Each configuration tried, with its validation metric; empty without a search."""


def fit_best(
    spec: BaselineSpec, inputs: FitInputs, validate: Callable[[Baseline], float] | None = None
) -> TunedBaseline:
    """Fit a baseline with the best of its configurations.

    `validate` returns a validation metric of a model, higher is better. Without it, the default
    configuration is used. Of equal models, the first is returned.
    """
    if validate is None or len(spec.configs) == 1:
        config = spec.configs[0]
        return TunedBaseline(spec.fit(inputs, config), config, ())
    trials: list[tuple[Config, float]] = []
    best: tuple[Baseline, Config, float] | None = None
    for config in spec.configs:
        model = spec.fit(inputs, config)
        trials.append((config, validate(model)))
        if best is None or trials[-1][1] > best[2]:
            best = (model, *trials[-1])
    assert best is not None  # noqa: S101  there is at least one configuration
    return TunedBaseline(best[0], best[1], tuple(trials))


class Recency(Config):
    """Which interactions of a history are used, and their weights."""

    last: int | None = Field(default=None, ge=1)
    """Number of most recent interactions to use. None: all."""

    decay: float = Field(default=1.0, gt=0, le=1)
    """Factor by which the weight decreases with each later interaction."""


FULL_HISTORY = Recency()
"""All interactions, equally weighted."""


def history_matrix(
    histories: Sequence[NDArray[np.int32]], n_items: int, recency: Recency = FULL_HISTORY
) -> sp.csr_array:
    """The weight of each item in each history, float32, [B, n_items].

    The latest interaction has weight 1, the one before `recency.decay`, and so on. An item that
    occurs repeatedly has the weight of its latest occurrence.

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
    # np.unique keeps the first occurrence, so sort the latest first.
    newest_first = np.argsort(age, kind="stable")
    keys = (rows * n_items + items)[newest_first]
    keys, first = np.unique(keys, return_index=True)
    weights = np.power(recency.decay, age[newest_first][first]).astype(np.float32)
    return sp.csr_array(
        (weights, (keys // n_items, keys % n_items)), shape=(len(histories), n_items)
    )
