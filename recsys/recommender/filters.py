"""Options of a recommendation: number of items, filters and weights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.arguments import shown, to_int, to_number
from recsys.errors import QueryError
from recsys.recommender.catalogue import Catalogue, Item, Unknown

ItemFilter: TypeAlias = (
    Collection[Item] | Mapping[str, object] | Callable[[pd.DataFrame], "pd.Series[bool]"]
)
"""A selection of items: by id or title, `["Heat (1995)", 150]`; by attribute,
`{"genres": "Comedy"}` or, for any of several values, `{"genres": ["Comedy", "Crime"]}`; or by a
function of the catalogue, `lambda items: items["title"].str.contains("1995")`."""


@dataclass(frozen=True, eq=False)
class RecommendOptions:
    """Validated options of a recommendation."""

    k: int
    """Maximum number of items."""
    allowed: NDArray[np.bool_] | None = None
    """Mask of the items that may be recommended, [n_items]. None allows all."""
    diversity: float = 0.0
    """From 0 to 1: penalty on items that are similar to others of the result."""
    popularity_weight: float = 1.0
    """From 0 to 1: share of the effect of an item's popularity that remains in its score."""
    embedding_weight: float | None = None
    """From 0 to 1: weight of the embeddings relative to the session model. None selects
    `SINGLE_ITEM_WEIGHT` for histories of one interaction and zero for all others."""
    exclude_seen: bool | None = None
    """Whether to leave out items of the history. None follows the model."""

    @classmethod
    def resolve(
        cls,
        catalogue: Catalogue,
        k: object,
        include: object = None,
        exclude: object = (),
        diversity: object = 0.0,
        popularity_weight: object = 1.0,
        embedding_weight: object = None,
        exclude_seen: object = None,
        unknown: Any = "raise",
    ) -> RecommendOptions:
        """Validate the arguments of a request and look up the items of its filters.

        Raises:
            UnknownItemError: A filter contains an unknown item.
            QueryError: An argument is invalid.
        """
        weight = embedding_weight
        if not (exclude_seen is None or isinstance(exclude_seen, bool)):
            raise QueryError(
                f"exclude_seen is {shown(exclude_seen)}: it must be True, False or None"
            )
        return cls(
            min(to_int("k", k, error=QueryError), len(catalogue)),
            _allowed(catalogue, include, exclude, unknown),
            to_number("diversity", diversity, 0, 1, QueryError),
            to_number("popularity_weight", popularity_weight, 0, 1, QueryError),
            None if weight is None else to_number("embedding_weight", weight, 0, 1, QueryError),
            exclude_seen,
        )


def _allowed(
    catalogue: Catalogue, include: object, exclude: object, unknown: Unknown
) -> NDArray[np.bool_] | None:
    allowed_N = None if include is None else _mask(catalogue, "include", include, unknown)
    if exclude is None or (isinstance(exclude, Mapping | list | tuple) and not exclude):
        return allowed_N
    excluded_N = _mask(catalogue, "exclude", exclude, unknown)
    return ~excluded_N if allowed_N is None else allowed_N & ~excluded_N


def _mask(
    catalogue: Catalogue, name: str, item_filter: object, unknown: Unknown
) -> NDArray[np.bool_]:
    """The items of a filter, [N]; `name` is the argument's name in error messages."""
    if isinstance(item_filter, Mapping):
        mask_N = np.ones(len(catalogue), dtype=np.bool_)
        for column, value in item_filter.items():
            values = value if isinstance(value, list | tuple | set | frozenset) else [value]
            mask_N &= np.any([catalogue.attribute_mask(column, v) for v in values], axis=0)
        return mask_N
    if callable(item_filter):
        try:
            mask_N = np.asarray(item_filter(catalogue.table))
        except Exception as error:
            raise QueryError(f"the function passed as {name} failed: {error!r}") from error
        if mask_N.dtype != np.bool_ or mask_N.shape != (len(catalogue),):
            raise QueryError(
                f"the function passed as {name} must return True or False for each of the "
                f"{len(catalogue)} items; it returned {mask_N.dtype} of shape {mask_N.shape}"
            )
        return mask_N
    mask_N = np.zeros(len(catalogue), dtype=np.bool_)
    mask_N[catalogue.indices(name, item_filter, unknown)] = True
    return mask_N
