"""What every baseline is, what it is made from, and how it is named and tuned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.config import Config, Runtime
from recsys.data import Interactions


class Baseline(Protocol):
    """Anything that scores every item for what comes next."""

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Scores of all items, higher is better, [B, n_items], in a new array."""
        ...


@dataclass(frozen=True, eq=False)
class DotProduct(ABC):
    """A baseline whose scores are dot products of vectors of histories and of items.

    Evaluation knows such models by `item_vectors` and `user_vectors`, and ranks them without ever
    holding all scores.
    """

    item_vectors: NDArray[np.float32]
    """[n_items, dim]."""

    @abstractmethod
    def user_vectors(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """A vector for each history, [B, dim]."""

    def score(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Dot products of each history's vector with all item vectors, [B, n_items]."""
        return self.user_vectors(histories) @ self.item_vectors.T


@dataclass(frozen=True, eq=False)
class FitInputs:
    """What a baseline can be made from."""

    train: Interactions
    runtime: Runtime = field(default_factory=Runtime)
    item_vectors: NDArray[np.float32] | None = None
    """Vectors of all items, for those baselines that start from some, [n_items, dim]."""


@dataclass(frozen=True)
class BaselineSpec:
    """How a baseline is made, and which settings are worth trying."""

    fit: Callable[[FitInputs, Any], Baseline]
    configs: tuple[Config, ...] = (Config(),)
    """The default first; the others are tried where there is something to choose by."""


@dataclass(frozen=True, eq=False)
class TunedBaseline:
    """A baseline that has been fitted, and how its settings were chosen."""

    model: Baseline
    config: Config
    trials: tuple[tuple[Config, float], ...]
    """Each configuration that was tried, with what it scored; empty where none was."""


def fit_best(
    recipe: BaselineSpec,
    ingredients: FitInputs,
    validate: Callable[[Baseline], float] | None = None,
) -> TunedBaseline:
    """Fit a recipe with the best of its configurations.

    Args:
        recipe: what to make.
        ingredients: what from.
        validate: how good a model is, higher is better, on targets that are not those of the
            test; without it, the default is taken.

    Returns:
        The best model; of equally good ones the first.
    """
    if validate is None or len(recipe.configs) == 1:
        config = recipe.configs[0]
        return TunedBaseline(recipe.fit(ingredients, config), config, ())
    trials: list[tuple[Config, float]] = []
    best: tuple[Baseline, Config, float] | None = None
    for config in recipe.configs:
        model = recipe.fit(ingredients, config)
        trials.append((config, validate(model)))
        if best is None or trials[-1][1] > best[2]:
            best = (model, *trials[-1])
    assert best is not None  # noqa: S101  there is at least one configuration
    return TunedBaseline(best[0], best[1], tuple(trials))
