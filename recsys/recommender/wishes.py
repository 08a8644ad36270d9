"""What is asked for beside the history: said once, for all methods that take it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys.recommender.arguments import count_of, share_of
from recsys.recommender.catalogue import Catalogue, ItemFilter

Method = TypeVar("Method", bound=Callable[..., Any])


class ItemWishes(TypedDict, total=False):
    """Which items may be recommended."""

    exclude: ItemFilter
    """Items not to recommend; none where it is left out."""
    include: ItemFilter | None
    """Recommend only from these; from all where it is left out or None."""


class ListWishes(ItemWishes, total=False):
    """And what a list of them shall be like."""

    diversity: float
    """From 0, the default, to 1: how much to avoid items that are like others of the answer."""


class NextWishes(ListWishes, total=False):
    """And how what comes next is scored."""

    popularity_weight: float
    """From 0 to 1, the default: how much of the pull of popular items to leave."""
    embedding_weight: float | None
    """From 0 to 1: the weight of the embeddings beside the session model. None, the default, takes
    what did best on validation."""


DEFAULTS: Mapping[str, Any] = {
    "exclude": (),
    "include": None,
    "diversity": 0.0,
    "popularity_weight": 1.0,
    "embedding_weight": None,
}
"""What holds where a wish is left out."""


def taking(kind: type[ItemWishes]) -> Callable[[Method], Method]:
    """Spell the wishes of a method out in its signature, which `help` and completion go by.

    Args:
        kind: which wishes it takes, as `**wishes`.
    """

    def spell_out(method: Method) -> Method:
        signature = inspect.signature(method)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        asked = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=DEFAULTS[name])
            for name in DEFAULTS
            if name in kind.__annotations__
        ]
        shown = signature.replace(parameters=[*own, *asked])
        setattr(method, "__signature__", shown)  # noqa: B010  no type declares it
        return method

    return spell_out


@dataclass(frozen=True, eq=False)
class Wishes:
    """The same, checked and looked up."""

    k: int
    allowed: NDArray[np.bool_] | None = None
    """Which items may be recommended; None for all."""
    diversity: float = 0.0
    popularity_weight: float = 1.0
    embedding_weight: float | None = None
    """None takes `ONE_FILM_BLEND` for histories of one watch, and zero for all others."""


def wishes_of(
    catalogue: Catalogue, k: object, asked: Mapping[str, object], kind: type[ItemWishes]
) -> Wishes:
    """Check what is asked for, and look the chosen items up.

    Args:
        catalogue: of the recommender.
        k: how many items.
        asked: the wishes, by name.
        kind: which wishes there are.

    Raises:
        UnknownItemError: an item is named that is not there.
        QueryError: a wish is not what it has to be.
        TypeError: there is no such wish.
    """
    known = kind.__annotations__  # those of its bases among them
    for name in asked:
        if name not in known:
            names = ", ".join(sorted(known))
            raise TypeError(f"there is no argument {name!r} here; what can be wished for: {names}")
    wish = {**DEFAULTS, **asked}
    return Wishes(
        min(count_of("k", k), len(catalogue)),
        _allowed(catalogue, wish["exclude"], wish["include"]),
        share_of("diversity", wish["diversity"]),
        share_of("popularity_weight", wish["popularity_weight"]),
        None
        if wish["embedding_weight"] is None
        else share_of("embedding_weight", wish["embedding_weight"]),
    )


def _allowed(catalogue: Catalogue, exclude: object, include: object) -> NDArray[np.bool_] | None:
    """Which items may be recommended, [N]; None for all."""
    allowed = None if include is None else catalogue.mask("include", include)
    if _is_empty(exclude):
        return allowed
    excluded_N = catalogue.mask("exclude", exclude)
    return ~excluded_N if allowed is None else allowed & ~excluded_N


def _is_empty(choice: object) -> bool:
    return isinstance(choice, Sequence) and not isinstance(choice, str) and not len(choice)
